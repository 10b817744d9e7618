"""What the runner asks of a task system: how to publish to it, how to work it off, how to see that it is done.

A System is used by three kinds of processes: the runner (reset, workers, done, span), a producer child
(`bench.producing`: publish, fill, latency, chord), and the workers, which are the system's own command.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import bank, clean
from bench.addresses import addresses

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "BENCH_DATABASE"
RATE = "BENCH_RATE"
"""Tasks a second that a paced producer sends."""


class System(ABC):
    """One configuration of one task system. Subclasses say how."""

    about = ""
    """What it is, in words, for the table."""

    durability = "quorum queue, confirmed publish, result committed with fsync before the ack"
    """What is safe when. All must be equal here, or say the difference."""

    result_store = "postgres"
    """Where a result ends: postgres, redis or none."""

    broker = "rabbitmq"
    transfers = False
    """Whether its work is `bench.bank`'s."""

    waiting = ""
    """How its caller waits for a result."""

    tasks = 2000
    """How many in the first round; later rounds take as many as keep it busy for the wanted time."""

    calls = 300
    """Single calls timed, at most; 0 for none."""

    def __init__(self, name: str, **variables: str) -> None:
        self.name = name
        self.variables = variables
        self.database = "bench_" + name.replace("-", "_").replace("/", "_")
        self.published = 0
        self._connection: Any = None
        self._polls = 0

    # -- the runner's side

    def unavailable(self) -> str | None:
        """Why it cannot be measured here and now; None when it can."""
        return None

    def environment(self) -> dict[str, str]:
        """Of its producers and workers."""
        # what leads a Celery application elsewhere is nothing that a benchmark is to follow
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
        return {
            **inherited,
            **self.variables,
            DATABASE: self.database,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def reset(self) -> None:
        """A database and a vhost in which nothing was ever done."""
        clean.fresh_database(self.database)
        clean.fresh_vhost()
        if "redis" in (self.broker, self.result_store):
            clean.fresh_redis()
        if self.transfers:
            clean.statement(self.database, bank.TABLES + bank.BY_HAND)
        self.create()

    def create(self) -> None:
        """Make tables and queues, by the system's own means where it has them; nothing where it needs none."""
        return

    @abstractmethod
    def workers(self) -> list[list[str]]:
        """The commands of its workers."""

    def beside(self) -> list[list[str]]:
        """The commands of what else a chord needs: whatever sends a task that another one has sent."""
        return []

    @abstractmethod
    def done(self) -> int:
        """How many tasks are finished."""

    def span(self, tasks: int) -> tuple[float, float] | None:
        """When the first tenth and when the last task was finished, in seconds, where the store knows."""
        return None

    def query(self, text: str) -> Any:
        """One row, on a connection that is kept: one commit each, which are counted."""
        if self._connection is None:
            self._connection = clean.connect(self.database)
        self._polls += 1
        cursor = self._connection.cursor()
        cursor.execute(text)
        return cursor.fetchone()

    def close(self) -> int:
        """Drop the kept connection; returns how many commits it has made."""
        polls, self._polls = self._polls, 0
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return polls

    def verify(self, tasks: int) -> None:
        """That the work was done right."""
        if self.transfers:
            connection = clean.connect(self.database)
            bank.verify(connection.cursor(), tasks)
            connection.close()

    # -- the producer's side

    @abstractmethod
    def publish(self, first: int, count: int) -> float:
        """Send `count` tasks one by one, as a user would; returns the seconds it took."""

    def fill(self, first: int, count: int) -> float:
        """Send `count` tasks in any way that leaves the same messages."""
        return self.publish(first, count)

    @abstractmethod
    def latency(self, first: int, count: int) -> list[float]:
        """Seconds from enqueueing to the result in the caller's hands, one call at a time."""


def span_query(column: str, table: str, condition: str = "true") -> str:
    """When a tenth of the rows was finished, and when all were. The first tenth is the workers' start."""
    return (
        f"SELECT extract(epoch FROM percentile_disc(0.1) WITHIN GROUP (ORDER BY {column}))::float8,"
        f" extract(epoch FROM max({column}))::float8 FROM {table} WHERE {condition}"
    )


def timed_calls(call: Callable[[int], Any], first: int, count: int, seconds: float = 12.0) -> list[float]:
    """Time single calls, after one that is not counted; fewer when they take too long."""
    call(first)
    taken: list[float] = []
    end = perf_counter() + seconds
    for serial in range(first + 1, first + 1 + count):
        start = perf_counter()
        call(serial)
        taken.append(perf_counter() - start)
        if perf_counter() > end:
            break
    return taken


def python(*arguments: str) -> list[str]:
    """A Python program of this environment."""
    return [sys.executable, *arguments]


def script(name: str, *arguments: str) -> list[str]:
    """A console script of this environment."""
    return [str(Path(sys.executable).parent / name), *arguments]


def database_url(driver: str = "") -> str:
    """In a child: the database of the system it works for."""
    return addresses().database(os.environ.get(DATABASE, "postgres"), driver)
