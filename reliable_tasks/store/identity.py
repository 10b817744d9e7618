"""Row ids: a result's id is a UUIDv7; Celery's task id may be any string and is mapped to one."""

import re
import uuid

import uuid_utils
from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.store.tables import task_ids

_OURS = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").fullmatch


def new_id() -> uuid.UUID:
    """A fresh UUIDv7 (RFC 9562): sorts by time, so that it can be a partition key."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def new_task_id() -> str:
    """The same as text, for a task that is sent: its result will have it, too."""
    return str(uuid_utils.uuid7())


def own_id(task_id: str) -> uuid.UUID | None:
    """The UUIDv7 that `task_id` is, when we made it; else None."""
    return uuid.UUID(task_id) if is_own(task_id) else None


def is_own(task_id: str) -> bool:
    """Whether `task_id` is a UUIDv7 as we write them, so that its result has the same id."""
    return _OURS(task_id) is not None


def find_result_id(connection: Connection, task_id: str) -> uuid.UUID | None:
    """The result id of a known task id."""
    own = own_id(task_id)
    if own is not None:
        return own
    return connection.execute(
        select(task_ids.c.result_id).where(task_ids.c.task_id == task_id)
    ).scalar_one_or_none()


def result_id_for(connection: Connection, task_id: str) -> uuid.UUID:
    """The result id of `task_id`; a foreign id is mapped in this transaction when it is new."""
    known = find_result_id(connection, task_id)
    if known is not None:
        return known
    connection.execute(insert(task_ids).values(task_id=task_id, result_id=new_id()).on_conflict_do_nothing())
    mapped: uuid.UUID = connection.execute(
        select(task_ids.c.result_id).where(task_ids.c.task_id == task_id)
    ).scalar_one()
    return mapped
