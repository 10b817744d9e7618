"""Somebody who waits for results, and somebody who ends tasks: only the database is between them."""

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy
from celery import Celery
from sqlalchemy import text

from reliable_tasks.model.states import TaskState
from reliable_tasks.store import results
from reliable_tasks.store.engine import begin, create_engine
from reliable_tasks.store.listening import listener_of
from reliable_tasks.worker.rows import now, result_columns
from tests.waiting import wait_until

NEVER = 300.0
"""An interval at which nobody looks within a test: who gets his result was called."""


class Ends:
    """A process that ends tasks, as a worker's commit does."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def succeed(self, *task_ids: str, value: Any = "done") -> None:
        with begin(self.engine) as connection:
            self._store(connection, task_ids, TaskState.SUCCEEDED, result_columns(value, "SUCCESS", None))

    def succeed_unheard(self, *task_ids: str) -> None:
        """As a process that is killed between the commit and the notification."""
        with self.engine.begin() as connection:
            columns = result_columns("done", "SUCCESS", None)
            self._store(connection, task_ids, TaskState.SUCCEEDED, columns)

    def succeed_and_roll_back(self, task_id: str) -> None:
        with begin(self.engine) as connection:
            columns = result_columns("done", "SUCCESS", None)
            self._store(connection, [task_id], TaskState.SUCCEEDED, columns)
            raise ZeroDivisionError

    def fail(self, task_id: str, message: str) -> None:
        failure = {"exc_type": "ValueError", "exc_message": [message], "exc_module": "builtins"}
        with begin(self.engine) as connection:
            self._store(connection, [task_id], TaskState.FAILED, result_columns(failure, "FAILURE", None))

    def _store(self, connection: Any, task_ids: Any, state: TaskState, columns: dict[str, Any]) -> None:
        for task_id in task_ids:
            results.store(connection, task_id, state, {**columns, "finished_at": now()})


class Waits:
    """A process that waits for results, in threads."""

    def __init__(self, app: Celery, threads: ThreadPoolExecutor) -> None:
        self.app = app
        self.engine = app.backend.engine
        self.listener = listener_of(self.engine)
        self._threads = threads

    def for_task(self, task_id: str, **options: Any) -> "Future[Any]":
        """A thread that waits, with the listener there."""
        options = {"timeout": 60, "interval": NEVER, **options}
        waiting = self._threads.submit(self.app.AsyncResult(task_id).get, **options)
        wait_until(lambda: self.listener.hears or waiting.done(), "the listener hears")
        return waiting

    def connections(self, name: str = "reliable_tasks listener") -> list[int]:
        """The server's processes of connections of this name to this database."""
        query = (
            "SELECT pid FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"
        )
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), {"name": name}).scalars())


def backend_at(url: str) -> str:
    """The result backend's URL of a plain Celery application."""
    return url.replace("postgresql+psycopg2", "reliable+postgresql")


def waits_at(url: str, threads: ThreadPoolExecutor) -> Waits:
    """Somebody who waits for what happens in a database."""
    return Waits(Celery("waits", backend=backend_at(url), set_as_current=False), threads)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads to wait in."""
    with ThreadPoolExecutor(32) as threads:
        yield threads


@pytest.fixture(autouse=True)
def _no_environment_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application of ours publishes its own, and Celery takes it before what a plain application says."""
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def waits(fresh_database: str, threads: ThreadPoolExecutor) -> Iterator[Waits]:
    """Somebody who waits for results in this test's database."""
    waits = waits_at(fresh_database, threads)
    yield waits
    waits.listener.close()
    waits.engine.dispose()


@pytest.fixture
def ends(fresh_database: str) -> Iterator[Ends]:
    """Somebody who ends tasks there."""
    engine = create_engine(fresh_database)
    yield Ends(engine)
    engine.dispose()


@pytest.fixture
def task_id() -> str:
    """An id that no other test uses; not one of ours, which are UUIDs."""
    return f"task-{secrets.token_hex(6)}"


class Questions:
    """What an engine asks: how many statements, and how many values the largest was given."""

    def __init__(self, engine: Any) -> None:
        self.asked: list[str] = []
        sqlalchemy.event.listen(engine, "before_cursor_execute", self._asks)

    def _asks(self, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            self.asked.append(statement)


@pytest.fixture
def questions(waits: Waits) -> Questions:
    """What is asked by who waits."""
    return Questions(waits.engine)
