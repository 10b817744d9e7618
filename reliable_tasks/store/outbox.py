"""The outbox: every message that is to be sent later or together with a commit, with the time it is due."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Interval,
    any_,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.storable import storable_json
from reliable_tasks.store.tables import outbox

Position = tuple[datetime, int]
"""A message's place in the order in which messages are sent: when it is due, and its row's id."""

_now = func.clock_timestamp()
_begun = func.statement_timestamp()
"""The same for a query, which would otherwise ask the clock at each row, and so go through all that are not due yet."""

_REMOVE = delete(outbox).where(outbox.c.id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
_LATER = insert(outbox).values(due_at=_now + bindparam("delay", type_=Interval()))


def row_of(message: Message) -> dict[str, Any]:
    """The columns of a message; `due_at` only where it has one, so that the database's clock decides."""
    row: dict[str, Any] = {
        "task_id": message.task_id,
        "task_name": message.task_name,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "queue": message.queue,
        "body": message.body,
        "headers": storable_json(message.headers),
        "properties": message.properties,
        "priority": message.priority,
        "expires_at": message.expires_at,
    }
    if message.due_at is not None:
        row["due_at"] = message.due_at
    return row


def insert_statement(message: Message) -> Any:
    """The INSERT of one message, for a caller with a session of its own (AsyncSession, too)."""
    delayed = {} if message.delay is None else {"due_at": _now + message.delay}
    return insert(outbox).values(**row_of(message), **delayed)


def add(connection: Connection, messages: Iterable[Message]) -> None:
    """Write messages in the caller's transaction: they are sent only if it commits."""
    for message in messages:
        if message.delay is None:
            connection.execute(insert(outbox), row_of(message))
        else:
            connection.execute(_LATER, {**row_of(message), "delay": message.delay})


def due(connection: Connection, limit: int, after: Position | None = None) -> list[tuple[int, Message]]:
    """The oldest due messages with their row ids.

    Args:
        after: only those behind this one. Rows that are deleted cost time until Postgres may remove them, which the
            oldest transaction of the whole server delays: who has just been there needs not step over them again.
    """
    query = (
        select(outbox).where(outbox.c.due_at <= _begun).order_by(outbox.c.due_at, outbox.c.id).limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(outbox.c.due_at, outbox.c.id) > tuple_(*map(literal, after)))
    return [(row.id, _message(row)) for row in connection.execute(query)]


def remove(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows whose messages the broker has confirmed."""
    if ids:
        connection.execute(_REMOVE, {"ids": list(ids)})


def put_off(connection: Connection, row_id: int, error: str) -> None:
    """Note why the broker did not take a message; it is tried again later and later, at most each minute."""
    connection.execute(
        update(outbox)
        .where(outbox.c.id == row_id)
        .values(
            tries=outbox.c.tries + 1,
            last_error=error,
            # the exponent has a bound too: 2 to the power of the 1024th try is more than Postgres can hold
            due_at=_now + func.least(func.power(2, func.least(outbox.c.tries, 6)), 60) * timedelta(seconds=1),
        )
    )


def withdraw(connection: Connection, task_id: str) -> int:
    """Delete a task's messages that were not sent yet; returns how many there were."""
    return connection.execute(delete(outbox).where(outbox.c.task_id == task_id)).rowcount


def waiting(connection: Connection) -> int:
    """All messages, due or not."""
    return int(connection.execute(select(func.count()).select_from(outbox)).scalar_one())


def message_of(row: Mapping[str, Any]) -> Message:
    """The message that a row holds."""
    return _message(SimpleNamespace(**row))


def _message(row: Any) -> Message:
    return Message(
        task_id=row.task_id,
        task_name=row.task_name,
        exchange=row.exchange,
        routing_key=row.routing_key,
        queue=row.queue,
        body=bytes(row.body),
        headers=row.headers,
        properties=row.properties,
        priority=row.priority,
        due_at=row.due_at,
        expires_at=row.expires_at,
    )
