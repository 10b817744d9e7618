"""Attempts: one row per execution, inserted once, at its end."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from reliable_tasks.store.tables import attempts, suppressed


def add(connection: Connection, values: Mapping[str, Any]) -> None:
    """Insert the row of an execution that has ended."""
    connection.execute(attempts.insert(), dict(values))


def of_task(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """All attempts of a task, oldest first."""
    query = select(attempts).where(attempts.c.task_id == task_id).order_by(attempts.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def lost(connection: Connection, task_id: str, replay: int) -> int:
    """How many executions of a task have died with their worker, since its last replay."""
    query = select(func.count()).where(
        attempts.c.task_id == task_id, attempts.c.replay == replay, attempts.c.state == "lost"
    )
    return int(connection.execute(query).scalar_one())


def suppress(connection: Connection, task_id: str, task_name: str, key: str | None, kind: str) -> None:
    """Note a delivery that ran nothing: duplicate, redelivered, conflict, busy, takeover, fenced, unrecordable."""
    connection.execute(
        suppressed.insert(),
        {"task_id": task_id, "task_name": task_name, "idempotency_key": key, "kind": kind},
    )


def refused(connection: Connection, task_id: str) -> int:
    """How often the database has refused a task's rows since it last took those of an attempt."""
    recorded = select(func.max(attempts.c.finished_at)).where(attempts.c.task_id == task_id).scalar_subquery()
    query = select(func.count()).where(
        suppressed.c.task_id == task_id,
        suppressed.c.kind == "unrecordable",
        suppressed.c.at > func.coalesce(recorded, func.to_timestamp(0)),
    )
    return int(connection.execute(query).scalar_one())


def suppressed_of(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """All deliveries of a task that ran nothing, oldest first."""
    query = select(suppressed).where(suppressed.c.task_id == task_id).order_by(suppressed.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]
