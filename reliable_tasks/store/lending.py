"""A connection lent to one task after the other: each has cursors, and a session, of its own, and only while it runs.

Whatever a task leaves behind, a thread, a cursor or a session that somebody holds, must not reach into the transaction
of the next one.
"""

from typing import Any, cast

import psycopg2
from psycopg2 import sql
from psycopg2.errors import LockNotAvailable
from psycopg2.extensions import TRANSACTION_STATUS_INERROR, TRANSACTION_STATUS_INTRANS, cursor
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ResourceClosedError

_SAYS_SOMETHING = frozenset({"closed", "encoding", "info", "notices", "server_version", "status"})
"""What only tells of the connection."""


class Lent:
    """A pooled connection as its borrower sees it, who can neither return nor keep it.

    Args:
        held: the connection, in a transaction.
        effect: a name for the savepoint that SQLAlchemy asks for first; it is set without a round trip of its own.
        before: statements that go ahead of the borrower's first one.
        has_effect: whether the savepoint is one of them.
    """

    waited_in_vain = False
    """Whether a statement gave up waiting for a lock."""

    used = False
    """Whether a statement was executed, or was meant to be."""

    before: str
    """What was not sent yet."""

    def __init__(self, held: Any, effect: str, before: str = "", *, has_effect: bool = False) -> None:
        self._held = held
        self._driver = held.driver_connection
        self.effect = effect
        self.before = before
        self._has_effect = has_effect
        self._first: str | None = None
        self._connection: Connection | None = None

    def connect(self, engine: Engine) -> Connection:
        """SQLAlchemy's connection on it, in a transaction that ends with it and commits nothing."""
        self._connection = Connection(engine, cast(Any, self))
        self._connection.begin()
        return self._connection

    def take_back(self) -> None:
        """From here on the borrower cannot do anything with it."""
        self._held = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def is_over(self) -> bool:
        """Whether it was taken back."""
        return self._held is None

    def cursor(self, *name: Any, **options: Any) -> Any:
        """The driver's own, for as long as the connection is lent."""
        self._there()
        if name or options:
            self.send_before()
        made = self._driver.cursor(*name, **{"cursor_factory": TaskCursor, **options})
        if isinstance(made, TaskCursor):
            made.lent = self
        return made

    def send_before(self) -> None:
        """Send what has to go ahead, where it cannot go with the next statement."""
        if before := self.take_before():
            with self._driver.cursor() as cursor:
                cursor.execute(before)

    def take_before(self) -> str:
        """What has to go ahead of a statement that is executed now."""
        before, self.before, self.used = self.before, "", True
        return before

    def is_effect(self, savepoint: str) -> bool:
        """Whether SQLAlchemy's savepoint of this name is the task's: the first, when nothing was done before."""
        if self._first is None:
            self._first = "" if self.used else savepoint
            if self._first and not self._has_effect:
                self.before += f"SAVEPOINT {self.effect}; "
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

    @property
    def is_in_order(self) -> bool:
        """Whether there is a transaction, of which no statement has failed."""
        return _status(self._driver) == TRANSACTION_STATUS_INTRANS

    @property
    def has_failed(self) -> bool:
        """Whether a statement has failed, and nothing that was done since the last savepoint can be kept."""
        return _status(self._driver) == TRANSACTION_STATUS_INERROR

    def _there(self) -> Any:
        if self._held is None:
            raise ResourceClosedError("the task that this connection was lent to is over")
        return self._held

    def __getattr__(self, name: str) -> Any:
        held = self._there()
        if name not in _SAYS_SOMETHING:
            self.send_before()  # whoever has the driver's connection itself may do anything with it
        return getattr(held, name)


class TaskCursor(cursor):
    """psycopg2's, in the transaction of a task and only while that runs.

    What was put off until the first statement is sent ahead of it, in the same round trip.
    """

    lent: Lent

    @property
    def connection(self) -> Any:  # type: ignore[override]  # in psycopg2 nobody can write to it either
        """As the task sees it: ended when the task is, and with the worker's transaction on it."""
        return self.lent

    def execute(self, query: Any, vars: Any = None) -> None:
        lent = self._lent()
        before = lent.take_before()
        try:
            if isinstance(query, sql.Composable):
                query = query.as_string(super().connection)
            if before:
                query = before.encode() + query if isinstance(query, bytes) else before + query
            super().execute(query, vars)
        except psycopg2.Error as error:
            self._failed(before, error)
            raise
        except BaseException:
            lent.before = before  # its values could not be written into it
            raise

    def executemany(self, query: Any, vars_list: Any) -> None:
        self._one(super().executemany, query, vars_list)

    def callproc(self, procname: Any, *parameters: Any) -> Any:
        return self._one(super().callproc, procname, *parameters)

    def copy_expert(self, sql: Any, file: Any, *size: Any, **more: Any) -> None:
        self._one(super().copy_expert, sql, file, *size, **more)

    def copy_from(self, file: Any, table: Any, *more: Any, **options: Any) -> None:
        self._one(super().copy_from, file, table, *more, **options)

    def copy_to(self, file: Any, table: Any, *more: Any, **options: Any) -> None:
        self._one(super().copy_to, file, table, *more, **options)

    def _one(self, call: Any, *values: Any, **more: Any) -> Any:
        """What makes its statements itself: nothing can be put ahead of them."""
        lent = self._lent()
        try:
            lent.send_before()
            return call(*values, **more)
        except psycopg2.Error as error:
            self._failed("", error)
            raise

    def _lent(self) -> Lent:
        if self.lent.is_over:
            raise psycopg2.InterfaceError("the task that this cursor was lent to is over")
        return self.lent

    def _failed(self, before: str, error: psycopg2.Error) -> None:
        if error.pgcode is None:  # the server does not know of it
            self.lent.before = before
        elif isinstance(error, LockNotAvailable):
            self.lent.waited_in_vain = True


def lend(connection: Connection) -> Lent:
    """For cursors beside what SQLAlchemy does on a connection."""
    return Lent(connection.connection, "")


def is_in_order(held: Any) -> bool:
    """Whether there is a transaction, of which no statement has failed."""
    return _status(held.driver_connection) == TRANSACTION_STATUS_INTRANS


def is_open(held: Any) -> bool:
    """Whether there is a transaction, failed or not."""
    return _status(held.driver_connection) in (TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR)


def _status(driver: Any) -> int:
    """As the server has said it last; asks nobody."""
    return int(driver.get_transaction_status())


def share_first_savepoint(engine: Engine) -> None:
    """Let SQLAlchemy's first savepoint on a lent connection be the one of the task, and cost nothing."""
    dialect = engine.dialect
    set_one, roll_back, release = (
        dialect.do_savepoint,
        dialect.do_rollback_to_savepoint,
        dialect.do_release_savepoint,
    )

    def do_savepoint(connection: Connection, name: str) -> None:
        if _of_effect(connection, name) is None:
            set_one(connection, name)

    def do_rollback_to_savepoint(connection: Connection, name: str) -> None:
        lent = _of_effect(connection, name)
        if lent is None:
            roll_back(connection, name)
        elif lent.used:
            roll_back(connection, lent.effect)  # with the savepoint ahead of it, if that was not sent

    def do_release_savepoint(connection: Connection, name: str) -> None:
        lent = _of_effect(connection, name)
        if lent is None:
            release(connection, name)
        elif not lent.is_in_order:
            release(connection, lent.effect)  # which says what is wrong

    dialect.do_savepoint = do_savepoint  # type: ignore[method-assign]  # of this engine's dialect alone
    dialect.do_rollback_to_savepoint = do_rollback_to_savepoint  # type: ignore[method-assign]  # as above
    dialect.do_release_savepoint = do_release_savepoint  # type: ignore[method-assign]  # as above


def _of_effect(connection: Connection, name: str) -> Lent | None:
    """What is lent, when this is the name of its task's savepoint."""
    lent = connection.connection
    return lent if isinstance(lent, Lent) and lent.is_effect(name) else None
