"""The result rows of tasks that wait in the outbox, as statements for a caller's own session."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.store.identity import new_id, own_id
from reliable_tasks.store.tables import results, task_ids


def enqueued_statements(task_id: str, values: Mapping[str, Any]) -> list[Any]:
    """INSERT of a result row in state `enqueued`; a known id is left as it is."""
    own = own_id(task_id)
    if own is not None:
        return [insert(results).values(id=own, task_id=task_id, **values).on_conflict_do_nothing()]
    mapped = insert(task_ids).values(task_id=task_id, result_id=new_id()).on_conflict_do_nothing()
    # the id may be mapped already, and a row of another would be a second result, which nobody ends
    result_id = select(task_ids.c.result_id).where(task_ids.c.task_id == task_id).scalar_subquery()
    row = insert(results).values(id=result_id, task_id=task_id, **values).on_conflict_do_nothing()
    return [mapped, row]
