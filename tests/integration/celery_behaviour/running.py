"""A worker, the services and beat as real programs, with what tests ask of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import text

from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
APPLICATION = "tests.integration.celery_behaviour.application"


@dataclass(frozen=True)
class Surroundings:
    """A vhost with the topology, a database with the schema, and a folder for marks."""

    broker_url: str
    management_url: str
    database_url: str
    place: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What leads our programs here."""
        return {
            "RELIABLE_TASKS_BROKER_URL": self.broker_url,
            "RELIABLE_TASKS_MANAGEMENT_URL": self.management_url,
            "RELIABLE_TASKS_DATABASE_URL": self.database_url,
            "BEHAVIOUR_PLACE": str(self.place),
            **more,
        }

    def log(self, name: str) -> str:
        """What a program has written so far."""
        return (self.place / f"{name}.log").read_text(errors="replace")


@contextmanager
def program(
    around: Surroundings, name: str, *command: str, **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program of Python modules until the end of the block, its output in `name`.log."""
    with (around.place / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, **around.environment(**variables)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def worker(
    around: Surroundings, name: str, *options: str, application: str = APPLICATION, **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A Celery worker that is ready to take tasks."""
    command = ("celery", "-A", application, "worker", "-l", "INFO", "-n", f"{name}@%h", *options)
    with program(around, name, *command, **variables) as process:
        wait_until(
            lambda: f"{name}@" in around.log(name) and "ready." in around.log(name), f"the worker {name}", 30
        )
        yield process


class Database:
    """What the tests read in the database."""

    def __init__(self, url: str) -> None:
        self.engine = sqlalchemy.create_engine(url)

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            found = connection.execute(text(query), values)
            return [dict(row) for row in found.mappings()] if found.returns_rows else []

    def result(self, task_id: str) -> dict[str, Any]:
        found = self.rows("SELECT * FROM reliable_tasks.results WHERE task_id = :id", id=task_id)
        return found[0] if found else {}

    def state(self, task_id: str) -> str | None:
        return self.result(task_id).get("state")

    def until(self, task_id: str, state: str, seconds: float = 20) -> dict[str, Any]:
        """The result row when it has this state."""
        wait_until(
            lambda: self.state(task_id) == state or self._seen(task_id), f"{task_id} is {state}", seconds
        )
        return self.result(task_id)

    def _seen(self, task_id: str) -> bool:
        raise AssertionError(f"it is {self.result(task_id)}")

    def effects(self, key: str) -> int:
        return len(self.rows("SELECT 1 AS one FROM effects WHERE key = :key", key=key))

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM reliable_tasks.attempts WHERE task_id = :id ORDER BY id", id=task_id)

    def dead_letter(self, task_id: str) -> dict[str, Any]:
        found = self.rows("SELECT * FROM reliable_tasks.dead_letters WHERE task_id = :id", id=task_id)
        return found[0] if found else {}

    def suppressed(self, task_id: str) -> list[str]:
        found = self.rows(
            "SELECT kind FROM reliable_tasks.suppressed_deliveries WHERE task_id = :id ORDER BY id",
            id=task_id,
        )
        return [row["kind"] for row in found]
