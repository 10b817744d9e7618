"""Faults of the random tier that happen to the database."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import psycopg2
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from reliable_tasks.dev.postgres import Mode
from reliable_tasks.dev.processes import children
from tests.chaos.random_field import Entry, Field


def _database_killed(field: Field) -> bool:
    return _database_away(field, field.stack.database.kill)


def _database_stopped(mode: Mode) -> Callable[[Field], bool]:
    return lambda field: _database_away(field, lambda: field.stack.database.stop(mode))


def _database_away(field: Field, go: Callable[[], None]) -> bool:
    moment = time.time()
    go()
    noticed = field.wait(lambda: field.not_accepted(moment), 10)
    field.stack.database.start()
    return noticed or field.wait(lambda: field.begins(moment) > 0)


def _database_stands_still(field: Field) -> bool:
    server = field.stack._state.database.server
    assert server is not None
    moment = time.time()
    processes = [server, *children(server)]
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGSTOP)
    try:
        field.hold(2.0, 5.0)
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
    return field.wait(lambda: field.begins(moment) > 0)


def _sessions_ended(field: Field) -> bool:
    with field.run.engine.begin() as connection:
        ended = connection.execute(
            text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).scalar_one()
    return int(ended) > 0


def _connections_used_up(field: Field) -> bool:
    held: list[psycopg2.extensions.connection] = []
    url = field.run.around.database_url.replace("+psycopg2", "")
    full = False
    try:
        for _ in range(400):
            held.append(psycopg2.connect(url))
    except psycopg2.OperationalError:
        full = True
        with _all_again(field):
            field.hold(2.0, 4.0)
    finally:
        for connection in held:
            connection.close()
    return full


@contextmanager
def _all_again(field: Field) -> Iterator[None]:
    """Those that have a connection want another one meanwhile."""
    with suppress(Exception):
        _sessions_of_ours_ended(field)
    yield


def _sessions_of_ours_ended(field: Field) -> None:
    url = field.run.around.database_url.replace("+psycopg2", "")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reliable_tasks'"
        )


def _claims_locked(field: Field) -> bool:
    with field.run.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE reliable_tasks.claims IN SHARE ROW EXCLUSIVE MODE")
        waiting = field.wait(
            lambda: field.count(
                "pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )
        field.hold(3.0, 6.0)
    return waiting


def _old_snapshot(field: Field) -> bool:
    """A transaction that sees the round's beginning stays open to its end."""
    connection = field.run.engine.connect().execution_options(isolation_level="REPEATABLE READ")
    field.until_the_end.callback(_closed, connection)
    connection.exec_driver_sql("SELECT count(*) FROM bank.accounts")
    return field.count("pg_stat_activity WHERE backend_xmin IS NOT NULL") > 0


def _closed(connection: Connection) -> None:
    with suppress(SQLAlchemyError):
        connection.close()


def _statements_refused(state: str) -> Callable[[Field], bool]:
    """Every fifth transfer or so is refused with this SQLSTATE for a while, half of them when they are recorded."""
    name = f"refuse_{state}"
    tables = ("bank.effect_log", "reliable_tasks.attempts")

    def act(field: Field) -> bool:
        _execute(
            field,
            f"CREATE SEQUENCE bank.{name}; CREATE FUNCTION bank.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN IF random() < 0.2 THEN PERFORM nextval('bank.{name}'); "
            f"RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{state}'; END IF; RETURN new; END $$",
        )
        try:
            for table in tables:
                _execute(
                    field,
                    f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION bank.{name}()",
                )
            field.hold(3.0, 6.0)
            return field.wait(lambda: field.count(f"bank.{name} WHERE is_called"))
        finally:
            for table in tables:
                _execute(field, f"DROP TRIGGER IF EXISTS {name} ON {table}")

    return act


def _execute(field: Field, statement: str) -> None:
    """In a transaction of its own, so that it waits for one table at most and cannot be half of a deadlock."""
    with field.run.engine.begin() as connection:
        connection.exec_driver_sql(statement)


DATABASE = (
    Entry("the database is killed", ("F19",), _database_killed),
    Entry("the database is shut down at once", ("F19",), _database_stopped("immediate")),
    Entry("the database is shut down in order", ("F19",), _database_stopped("fast")),
    Entry("the database stands still", ("F18",), _database_stands_still),
    Entry("all database sessions are ended", ("F18",), _sessions_ended),
    Entry("the database has no more connections", ("F23",), _connections_used_up),
    Entry("the claims are locked for seconds", ("F24",), _claims_locked),
    Entry("an old snapshot is kept open", ("F24",), _old_snapshot),
    Entry("statements fail with serialization errors", ("F25",), _statements_refused("40001")),
    Entry("statements fail with deadlocks", ("F25",), _statements_refused("40P01")),
    Entry("statements fail with lock time-outs", ("F25",), _statements_refused("55P03")),
)
