"""The outbox: every message that is to be sent later or together with a commit, with the time it is due."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Interval, bindparam, delete, func, insert, select, update

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.storable import storable_json
from reliable_tasks.store.tables import outbox

_now = func.clock_timestamp()
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


def due(connection: Connection, limit: int) -> list[tuple[int, Message]]:
    """The oldest due messages with their row ids."""
    query = select(outbox).where(outbox.c.due_at <= _now).order_by(outbox.c.due_at, outbox.c.id).limit(limit)
    return [(row["id"], message_of(row)) for row in connection.execute(query).mappings()]


def remove(connection: Connection, ids: Sequence[int]) -> None:
    """Delete rows whose messages the broker has confirmed."""
    if ids:
        connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))


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


def message_of(row: Any) -> Message:
    """The message that a row holds."""
    return Message(
        task_id=row["task_id"],
        task_name=row["task_name"],
        exchange=row["exchange"],
        routing_key=row["routing_key"],
        queue=row["queue"],
        body=bytes(row["body"]),
        headers=dict(row["headers"]),
        properties=dict(row["properties"]),
        priority=row["priority"],
        due_at=row["due_at"],
        expires_at=row["expires_at"],
    )
