"""Connections to Postgres: how they are made, and what their errors mean."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg2
import sqlalchemy
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InvalidRequestError,
    OperationalError,
    StatementError,
)

from reliable_tasks.errors import DatabaseUnreachable, MigrationMissing, ReliableTasksError
from reliable_tasks.store import clock
from reliable_tasks.store.announcing import announcer_of
from reliable_tasks.store.ended import take_noted
from reliable_tasks.store.lending import share_first_savepoint
from reliable_tasks.store.standby import ToldConnection

_CONNECT_SECONDS = 5
_IDLE_SECONDS = 1.0
_CONNECT_ARGS = {
    "connection_factory": ToldConnection,
    "connect_timeout": _CONNECT_SECONDS,
    "application_name": "reliable_tasks",
    "options": "-c timezone=UTC -c client_encoding=UTF8 -c default_transaction_isolation=read\\ committed "
    # a commit that no longer waits for the standby must not be silent: `ToldConnection`
    "-c client_min_messages=notice",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


def create_engine(url: str, *, pool_size: int = 4) -> Engine:
    """An engine for `url` (postgresql+psycopg2://...): READ COMMITTED, pinged after a pause, UTC.

    Why READ COMMITTED: a second claim must wait for the first and then see it; at REPEATABLE READ it would
    fail instead (https://www.postgresql.org/docs/15/transaction-iso.html).
    """
    engine = sqlalchemy.create_engine(
        url,
        pool_size=pool_size,
        # the callers' threads are the bound: one that holds a transaction may need a second connection to end it
        max_overflow=-1,
        # a failed statement is logged and kept in tracebacks; its values are the tasks' arguments
        hide_parameters=True,
        connect_args=dict(_CONNECT_ARGS),
    )
    _close_in_children(engine)
    _ping_after_a_pause(engine)
    _give_up_what_was_changed(engine)
    share_first_savepoint(engine)
    event.listen(engine, "connect", lambda connection, _record: clock.compare(connection))
    return engine


def _ping_after_a_pause(engine: Engine) -> None:
    # a ping before each transaction is a tenth of a worker's time; a connection that was busy a moment ago is alive,
    # or its next statement says that it is not

    @event.listens_for(engine, "checkin")
    def returned(_connection: Any, record: Any) -> None:
        record.info["returned"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def taken(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("returned", time.monotonic()) < _IDLE_SECONDS:
            return
        try:
            clock.compare(connection)  # as good a ping as any
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool makes a new connection


def _give_up_what_was_changed(engine: Engine) -> None:
    # what a task has set at the driver itself no RESET takes back: every task after it would fail by that

    @event.listens_for(engine, "checkin")
    def returned(connection: Any, record: Any) -> None:
        if connection is not None and (
            connection.autocommit
            or connection.readonly
            or connection.deferrable
            or connection.cursor_factory is not None
            or connection.isolation_level not in (None, ISOLATION_LEVEL_READ_COMMITTED)
        ):
            record.invalidate()


def _close_in_children(engine: Engine) -> None:
    # a forked child that used the parent's socket would mix two conversations on it
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))


def connector(engine: Engine, name: str) -> Callable[[], Any]:
    """Makes connections of the driver's own, in no pool, on which each statement commits by itself."""
    dialect = engine.dialect
    args, options = dialect.create_connect_args(engine.url)

    def connect() -> Any:
        connection = dialect.connect(*args, **{**options, **_CONNECT_ARGS, "application_name": name})
        connection.autocommit = True
        return connection

    return connect


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """One transaction; commits at the end, rolls back on any exception.

    Whoever waits for a task that it has ended (`store.ended.note_ended`) is told after the commit.

    Raises:
        DatabaseUnreachable: when the database cannot be reached or went away.
        MigrationMissing: when a table or column is missing.
    """
    with explained(engine):
        with engine.begin() as connection:
            take_noted(connection)
            yield connection
            ended = take_noted(connection)
        if ended:
            announcer_of(engine, connector).announce(ended)


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """The framework's errors instead of a driver's, where there is one of that kind."""
    try:
        yield
    except DBAPIError as error:
        known = explain(error, engine.url.render_as_string(hide_password=True))
        if known is None:
            raise
        raise known from error


def explain(error: DBAPIError, where: str) -> ReliableTasksError | None:
    """The framework's error for a driver's error; None when it is of another kind."""
    state = getattr(error.orig, "pgcode", None)
    if state in ("42P01", "3F000", "42703"):
        return MigrationMissing(
            f"the database {where} lacks our schema or a part of it",
            hint="run `reliable-tasks db upgrade`",
        )
    if is_outage(error):
        first = str(error.orig).strip().partition("\n")[0]
        if "password authentication failed" in first:
            hint = "check DB_USER and DB_PASSWORD, or RELIABLE_TASKS_DATABASE_URL"
        else:
            hint = "check that Postgres runs there and DB_HOST, DB_PORT, DB_NAME"
        return DatabaseUnreachable(f"the database {where} cannot be reached: {first}", hint=hint)
    return None


def is_outage(error: BaseException) -> bool:
    """Whether the database itself is the trouble, and not the statement or the data."""
    if isinstance(error, DatabaseUnreachable):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "pgcode", None)
    if state:
        return str(state)[:2] in ("08", "57", "53", "28") or state in ("25006",)
    return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))


def is_unstorable(error: BaseException) -> bool:
    """Whether the values themselves are what Postgres or its driver cannot hold: trying again would not help."""
    if isinstance(error, DBAPIError):
        return str(getattr(error.orig, "pgcode", None) or "")[:2] in ("22", "54")
    return isinstance(error, (StatementError, ValueError, TypeError, ArithmeticError, RecursionError))


def ping(engine: Engine) -> str:
    """The server's version, for example "15.18"."""
    with begin(engine) as connection:
        return str(connection.execute(text("SHOW server_version")).scalar_one()).split()[0]


def transaction_is_gone(error: BaseException) -> bool:
    """Whether a statement failed since the transaction or savepoint that it belongs to is not there any more.

    Args:
        error: SQLAlchemy's, or the driver's own.
    """
    failed = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(failed, psycopg2.Error):
        return failed.pgcode in ("25P01", "25P02", "3B001")
    return isinstance(error, InvalidRequestError)


def will_pass(error: BaseException) -> bool:
    """Whether the same transaction may be done the next time: an outage, a deadlock, a lock that was held too long.

    https://www.postgresql.org/docs/15/mvcc-serialization-failure-handling.html
    """
    if not isinstance(error, DBAPIError):
        return is_outage(error)
    return is_outage(error) or getattr(error.orig, "pgcode", None) in ("40001", "40P01", "55P03")


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a statement gave up waiting for another transaction's lock."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) == "55P03"


@contextmanager
def waiting_at_most(connection: Connection, seconds: int) -> Iterator[None]:
    """Give up waiting for another transaction's lock after so long; what the block did is then undone.

    Each line of statements is one round trip: they frame every claim. What a task before has SET and committed ends
    here: the next one would write to that one's schema, or as its user.
    """
    connection.exec_driver_sql(
        f"RESET ALL; RESET ROLE; SET LOCAL lock_timeout = '{seconds}s'; SAVEPOINT waiting"
    )
    try:
        yield
    except DBAPIError as error:
        if is_lock_timeout(error):
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT waiting; SET LOCAL lock_timeout = 0")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT waiting; SET LOCAL lock_timeout = 0")


def database_now(connection: Connection) -> datetime:
    """The database's clock, the only one that decides about leases."""
    found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return found
