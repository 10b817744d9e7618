"""Group results, as Celery's GroupResult.save stores them."""

from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.store.tables import group_results


def save(connection: Connection, group_id: str, result: Any) -> None:
    """Write or replace a group's result tuple."""
    new = insert(group_results).values(taskset_id=group_id, result=result)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=[group_results.c.taskset_id],
            set_={"result": new.excluded.result, "date_done": func.clock_timestamp()},
        )
    )


def restore(connection: Connection, group_id: str) -> dict[str, Any] | None:
    """The stored group: taskset_id, result, date_done."""
    query = select(group_results).where(group_results.c.taskset_id == group_id)
    row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row is not None else None


def remove(connection: Connection, group_id: str) -> None:
    """Delete a group's result."""
    connection.execute(delete(group_results).where(group_results.c.taskset_id == group_id))
