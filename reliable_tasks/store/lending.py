"""A connection lent to one task after the other: each has a SQLAlchemy connection of its own, and only while it runs.

Whatever a task leaves behind, a thread or a session that somebody holds, must not reach into the transaction of the
next one.
"""

from typing import Any, cast

from psycopg2.errors import LockNotAvailable
from psycopg2.extensions import TRANSACTION_STATUS_INERROR, TRANSACTION_STATUS_INTRANS
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ResourceClosedError

EFFECT = "reliable_tasks_effect"
"""The savepoint that is there when a task begins: the first that SQLAlchemy asks for is this one, and costs nothing."""


class Lent:
    """A pooled connection as its borrower sees it, who can neither return nor keep it.

    Args:
        held: the connection, in a transaction with the savepoint EFFECT.
    """

    waited_in_vain: bool
    """Whether a statement gave up waiting for a lock."""

    def __init__(self, held: Any) -> None:
        self._held = held
        self._first: str | None = None
        self.waited_in_vain = False

    def take_back(self) -> None:
        """From here on the borrower cannot do anything with it."""
        self._held = None

    def is_effect(self, savepoint: str) -> bool:
        """Whether SQLAlchemy's savepoint of this name is EFFECT."""
        if self._first is None:
            self._first = savepoint
        return self._first == savepoint

    def close(self) -> None:
        """What SQLAlchemy calls to give it back to the pool, from where the next task has it."""
        self.take_back()

    def _close_special(self, *, transaction_reset: bool = False) -> None:
        self.take_back()

    def commit(self) -> None:
        if self._held is not None:
            self._held.commit()

    def rollback(self) -> None:
        if self._held is not None:
            self._held.rollback()

    def detach(self) -> None:
        """No: it is the worker's."""
        raise ResourceClosedError("the connection of a task cannot be taken out of the pool")

    @property
    def is_valid(self) -> bool:
        return self._held is not None and bool(self._held.is_valid)

    def __getattr__(self, name: str) -> Any:
        if self._held is None:
            raise ResourceClosedError("the task that this connection was lent to is over")
        return getattr(self._held, name)


def lend(engine: Engine, held: Any) -> tuple[Connection, Lent]:
    """A connection for one task."""
    lent = Lent(held)
    connection = Connection(engine, cast(Any, lent))
    connection.begin()
    return connection, lent


def is_in_order(held: Any) -> bool:
    """Whether there is a transaction, of which no statement has failed."""
    return bool(_status(held) == TRANSACTION_STATUS_INTRANS)


def is_open(held: Any) -> bool:
    """Whether there is a transaction, failed or not."""
    return _status(held) in (TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR)


def _status(held: Any) -> int:
    """As the server has said it last; asks nobody."""
    return int(held.driver_connection.info.transaction_status)


def share_first_savepoint(engine: Engine) -> None:
    """Let SQLAlchemy's first savepoint on a lent connection be the one that is there."""
    dialect = engine.dialect
    set_one, roll_back, release = (
        dialect.do_savepoint,
        dialect.do_rollback_to_savepoint,
        dialect.do_release_savepoint,
    )

    def do_savepoint(connection: Connection, name: str) -> None:
        if not _is_effect(connection, name):
            set_one(connection, name)

    def do_rollback_to_savepoint(connection: Connection, name: str) -> None:
        roll_back(connection, EFFECT if _is_effect(connection, name) else name)

    def do_release_savepoint(connection: Connection, name: str) -> None:
        if not _is_effect(connection, name):
            release(connection, name)
        elif not is_in_order(connection.connection):
            release(connection, EFFECT)  # which says what is wrong

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        lent = context.connection.connection if context.connection is not None else None
        if isinstance(lent, Lent) and isinstance(context.original_exception, LockNotAvailable):
            lent.waited_in_vain = True

    dialect.do_savepoint = do_savepoint  # type: ignore[method-assign]  # of this engine's dialect alone
    dialect.do_rollback_to_savepoint = do_rollback_to_savepoint  # type: ignore[method-assign]  # as above
    dialect.do_release_savepoint = do_release_savepoint  # type: ignore[method-assign]  # as above


def _is_effect(connection: Connection, name: str) -> bool:
    lent = connection.connection
    return isinstance(lent, Lent) and lent.is_effect(name)
