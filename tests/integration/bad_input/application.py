"""A task with an effect, a plain one, and one that kills its worker."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import text

from reliable_tasks import ReliableCelery, TaskContext

app = ReliableCelery("bad_input", topology="topology:TOPOLOGY")
PLACE = Path(os.environ["TESTS_PLACE"])


@app.idempotent_task(key="{order}", effects="database")
def pay(ctx: TaskContext, order: str, amount: Decimal = Decimal(1)) -> str:
    ctx.session.execute(
        text("INSERT INTO effects (key, attempt) VALUES (:k, :a)"), {"k": order, "a": ctx.attempt}
    )
    return order


@app.task
def note(value: Any) -> Any:
    return value
