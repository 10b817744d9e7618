"""What a task does in its transaction by the driver's cursor, and what of it is there afterwards."""

from collections.abc import Callable
from typing import Any

from reliable_tasks import TaskContext
from tests.integration.delivering.one_delivery import rows

EFFECT = "INSERT INTO effects VALUES (%s)"
Act = Callable[[TaskContext, str], Any]


def leaves_its_effect(ctx: TaskContext, case: str) -> str:
    with ctx.cursor() as cursor:
        cursor.execute(EFFECT, (case,))
    return case


def effects(app: Any) -> list[str]:
    return [row["name"] for row in rows(app, "SELECT name FROM effects ORDER BY name")]
