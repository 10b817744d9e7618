"""Leases: kept up while an execution lives, and taken back when it is gone and nobody delivers its message again.

The claims have no index on state or lease, since each heartbeat would have to write it. What runs under a lease is
found by its message instead, which is kept from the claim to the end of the execution, and no longer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.model.envelope import Message
from reliable_tasks.store import outbox
from reliable_tasks.store.tables import claims, leased_messages
from reliable_tasks.store.verdicts import ClaimRequest

_now = func.clock_timestamp()
_COLUMNS = ("task_id", "queue", "body", "headers", "properties", "priority")
_BOTH = and_(leased_messages.c.task_name == claims.c.task_name, leased_messages.c.key == claims.c.key)


@dataclass(frozen=True)
class Lapse:
    """An execution whose lease is over, as it was seen."""

    task_name: str
    key: str
    fence: int
    lease_until: datetime


@dataclass(frozen=True)
class TakenBack:
    """What an execution has left: who it was, and the message that it was given."""

    attempt: int
    replay: int
    fence: int
    message: Message


def extend(connection: Connection, request: ClaimRequest, fence: int) -> bool:
    """Heartbeat: honour the claim for another lease, by the database's clock; False when it is lost."""
    changed = connection.execute(
        update(claims)
        .where(
            claims.c.task_name == request.task_name,
            claims.c.key == request.key,
            claims.c.owner == request.owner,
            claims.c.fence == fence,
            claims.c.state == "running",
        )
        .values(lease_until=_now + request.lease)
    )
    return changed.rowcount == 1


def keep(connection: Connection, task_name: str, key: str, message: Message) -> None:
    """Keep the message of an execution that begins, in the commit of its claim."""
    row = outbox.row_of(message)
    values = {name: row[name] for name in _COLUMNS}
    connection.execute(
        insert(leased_messages)
        .values(task_name=task_name, key=key, **values)
        .on_conflict_do_update(index_elements=["task_name", "key"], set_=values)
    )


def drop(connection: Connection, task_name: str, key: str) -> None:
    """Forget the message in the commit that ends its execution."""
    connection.execute(
        delete(leased_messages).where(leased_messages.c.task_name == task_name, leased_messages.c.key == key)
    )


def lapsed(connection: Connection, limit: int) -> tuple[datetime, list[Lapse]]:
    """The database's time, and the executions whose leases are over, the longest over first."""
    query = (
        select(claims.c.task_name, claims.c.key, claims.c.fence, claims.c.lease_until)
        .join_from(leased_messages, claims, _BOTH)
        .where(claims.c.state == "running", claims.c.lease_until < _now)
        .order_by(claims.c.lease_until)
        .limit(limit)
    )
    found = [Lapse(*row) for row in connection.execute(query)]
    return connection.execute(select(_now)).scalar_one(), found


def take_back(connection: Connection, lapse: Lapse) -> TakenBack | None:
    """Open the claim for the next delivery; None when it moved since it was seen, or somebody is at it now.

    What the execution may have done stays in doubt: `may_have_acted` is left as it is.
    """
    place = tuple_(claims.c.task_name, claims.c.key)
    still = (
        select(claims.c.task_name, claims.c.key)
        .where(
            claims.c.task_name == lapse.task_name,
            claims.c.key == lapse.key,
            claims.c.fence == lapse.fence,
            claims.c.state == "running",
            claims.c.lease_until == lapse.lease_until,
        )
        .with_for_update(skip_locked=True)
    )
    taken = connection.execute(
        update(claims)
        .where(place.in_(still))
        .values(state="retry_wait", owner=None, lease_until=None)
        .returning(claims.c.attempts, claims.c.replay)
    ).one_or_none()
    if taken is None:
        return None
    row: Any = (
        connection.execute(
            delete(leased_messages)
            .where(leased_messages.c.task_name == lapse.task_name, leased_messages.c.key == lapse.key)
            .returning(leased_messages)
        )
        .mappings()
        .one()
    )
    return TakenBack(taken.attempts, taken.replay, lapse.fence, outbox.message_of({**_UNSENT, **row}))


_UNSENT = {"exchange": "", "routing_key": "", "due_at": None, "expires_at": None}
