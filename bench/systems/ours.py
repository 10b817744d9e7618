"""Ours, as a user runs it: an ordinary application, ordinary producers, each worker command in turn."""

import os
import time
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench import bank, clean
from bench.addresses import addresses
from bench.system import RATE, System, script, span_query, timed_calls
from bench.systems import ours_aged, ours_missing

APPLICATION = "bench.systems.ours_app"
TEMPLATE = "bench_ours_template"
WINDOW = 500
PACE_SECONDS = 0.02


@dataclass(frozen=True)
class Workers:
    """One way to run workers.

    Args:
        kind: prefork (one node with so many children), solo (so many nodes), processes (one command).
        count: processes that execute tasks, each with one connection to the database.
    """

    kind: str
    count: int

    @property
    def name(self) -> str:
        """As in a configuration's name."""
        return f"{self.kind}{self.count}"

    def unavailable(self) -> str | None:
        """Why it cannot be run; None when it can."""
        return ours_missing.processes() if self.kind == "processes" else None

    def commands(self) -> list[list[str]]:
        """What a user types."""
        celery = ("celery", "-A", APPLICATION, "worker", "-l", "WARNING", "-Q", "bench,pure")
        match self.kind:
            case "prefork":
                return [script(*celery, "-n", "bench@%h", "-P", "prefork", "-c", str(self.count))]
            case "solo":
                return [script(*celery, "-n", f"bench{n}@%h", "-P", "solo") for n in range(self.count)]
            case _:
                program = ("reliable-tasks", "worker", "-A", f"{APPLICATION}:app", "--processes")
                return [script(*program, str(self.count), "-l", "WARNING", "-Q", "bench,pure")]


WORKERS = tuple(Workers(kind, count) for kind in ("prefork", "solo", "processes") for count in (2, 1, 4, 8))
"""In all of them each task is measured, as far as they are there; two of each in ordinary runs."""


class Ours(System):
    """One task of ours under one worker command."""

    waiting = "AsyncResult.get with its defaults"

    def __init__(self, task: str, workers: Workers, about: str, tasks: int = 1500, calls: int = 0) -> None:
        watched = {"BENCH_WATCHED": "1"} if task == "work_watched" else {}
        super().__init__(f"ours-{task.removeprefix('work_').replace('_', '-')}-{workers.name}", **watched)
        self.task, self.topology, self.about = task, workers, about
        self.transfers = task.startswith("transfer")
        self.tasks, self.calls = tasks, calls
        self._begun = 0.0

    def unavailable(self) -> str | None:
        return self.topology.unavailable()

    def environment(self) -> dict[str, str]:
        foreign = ("RELIABLE_TASKS_", "CELERY_", "RABBITMQ_", "DB_", "REDIS_")
        inherited = {
            name: value for name, value in super().environment().items() if not name.startswith(foreign)
        }
        return {
            **inherited,
            "RELIABLE_TASKS_BROKER_URL": addresses().vhost,
            "RELIABLE_TASKS_MANAGEMENT_URL": addresses().management,
            "RELIABLE_TASKS_DATABASE_URL": addresses().database(self.database, "psycopg2"),
        }

    def reset(self) -> None:
        prepare(self.database)
        self._begun = time.time() - 1
        if self.transfers:
            clean.statement(self.database, bank.TABLES)

    def workers(self) -> list[list[str]]:
        return self.topology.commands()

    def beside(self) -> list[list[str]]:
        return [script("reliable-tasks", "services", "-A", f"{APPLICATION}:app")]

    def done(self) -> int:
        return int(self.query(f"SELECT count(*) FROM reliable_tasks.results WHERE {self._new}")[0])

    def span(self, tasks: int) -> tuple[float, float]:
        first, last = self.query(span_query("finished_at", "reliable_tasks.results", self._new))
        return first, last

    @property
    def _new(self) -> str:
        """Those of this round, by an index: a table may be full of older ones."""
        return f"finished_at >= to_timestamp({self._begun}) AND state = 'succeeded'"

    def age(self, rows: int) -> None:
        """Put so many old results, with their claims and attempts, into the tables."""
        clean.statement(self.database, ours_aged.statements(rows))

    def publish(self, first: int, count: int) -> float:
        send = self._sender()
        send(first)  # the connection is up before the clock runs
        start = perf_counter()
        for serial in range(first + 1, first + count):
            send(serial)
        return (perf_counter() - start) * count / max(count - 1, 1)

    def fill(self, first: int, count: int) -> float:
        """The bytes of an ordinary producer, published in windows: rates of workers need full queues."""
        from reliable_tasks.worker.publishing import redirect

        send, app = self._sender(), _application()
        start = perf_counter()
        for begin in range(first, first + count, WINDOW):
            window: list[Any] = []
            with redirect(window.append):
                for serial in range(begin, min(begin + WINDOW, first + count)):
                    send(serial)
            refused = [error for error in app.runtime.publisher.publish_all(window) if error is not None]
            if refused:
                raise refused[0]
        return perf_counter() - start

    def paced(self, first: int, count: int) -> float:
        """Send in small windows, as many a second as the environment says."""
        rate = float(os.environ[RATE])
        each = max(1, int(rate * PACE_SECONDS))
        start = perf_counter()
        for begin in range(first, first + count, each):
            self.fill(begin, each)
            early = start + (begin + each - first) / rate - perf_counter()
            time.sleep(max(0.0, early))  # the pace that was asked for
        return perf_counter() - start

    def latency(self, first: int, count: int) -> list[float]:
        send = self._sender()
        return timed_calls(lambda serial: send(serial).get(timeout=60), first, count)

    def publish_many(self, first: int, count: int) -> float:
        """In bulk."""
        from bench.systems import ours_app

        task = getattr(ours_app, self.task)
        signatures = [task.s(serial, serial % bank.ACCOUNTS, 1) for serial in range(first, first + count)]
        self._sender()(first + count)  # the connection is up before the clock runs
        start = perf_counter()
        ours_app.app.publish_many(signatures)
        return perf_counter() - start

    def relay(self, first: int, count: int) -> float:
        """Seconds that a relay takes for an outbox of so many messages."""
        from reliable_tasks.services.relay import Relay
        from reliable_tasks.store import outbox
        from reliable_tasks.store.engine import begin
        from reliable_tasks.worker.publishing import redirect

        send, runtime = self._sender(), _application().runtime
        for begun in range(first, first + count, WINDOW):
            window: list[Any] = []
            with redirect(window.append):
                for serial in range(begun, min(begun + WINDOW, first + count)):
                    send(serial)
            with begin(runtime.engine) as connection:
                outbox.add(connection, window)
        send(first + count)  # the connection is up before the clock runs
        relay, relayed = Relay(runtime.engine, runtime.publisher), 0
        start = perf_counter()
        while relayed < count:
            relayed += relay.run_once()
        return perf_counter() - start

    def chord(self, first: int, count: int) -> float:
        """Seconds from sending a chord to its result."""
        from celery import chord

        from bench.systems.ours_app import number, total
        from bench.systems.stock_celery import run_chord

        return run_chord(chord, number, total, count)

    def _sender(self) -> Any:
        from bench.systems import ours_app

        task = getattr(ours_app, self.task)
        if self.transfers:
            return lambda serial: task.apply_async((serial, *bank.pair(serial), 1))
        return lambda serial: task.apply_async((serial, serial % bank.ACCOUNTS, 1))


def messages(count: int) -> list[Any]:
    """So many messages of the small task, as they are sent; nothing is connected to."""
    os.environ.update(SYSTEMS[0].environment())
    from bench.systems.ours_app import work_none
    from reliable_tasks.worker.publishing import redirect

    made: list[Any] = []
    with redirect(made.append):
        for serial in range(count):
            work_none.apply_async((serial, serial % bank.ACCOUNTS, 1))
    return made


def prepare(database: str) -> None:
    """A migrated database and a vhost with the topology, as `db upgrade` and `topology apply` leave them."""
    from bench.systems.ours_topology import TOPOLOGY
    from reliable_tasks.broker.management import Management
    from reliable_tasks.operate import topology
    from reliable_tasks.store import migrations

    if not clean.has_database(TEMPLATE):
        clean.fresh_database(TEMPLATE)
        migrations.upgrade(addresses().database(TEMPLATE, "psycopg2"))
    clean.fresh_database(database, TEMPLATE)
    clean.fresh_vhost()
    vhost = addresses().vhost
    topology.apply(
        topology.plan(TOPOLOGY, Management(addresses().management, vhost)), vhost, record=lambda _: None
    )


def _application() -> Any:
    from bench.systems import ours_app

    return ours_app.app


_ABOUT = {
    "work_none": ('effects="none"', 8000, 300),
    "work_watched": ('effects="none", with receivers of task_prerun, task_postrun, task_success', 4000, 0),
    "work_database": ('effects="database", empty body', 1000, 0),
    "work_external": ('effects="external", empty body', 800, 0),
    "transfer": ("a transfer by ctx.cursor(), one commit each", 1500, 0),
    "transfer_batched": ("transfers by ctx.cursor(), batch=10", 4000, 0),
    "transfer_session": ("a transfer by ctx.session, one commit each", 1000, 0),
    "transfer_session_batched": ("transfers by ctx.session, batch=10", 3000, 0),
}

SYSTEMS = [
    Ours(task, workers, f"{about}; {workers.name}", tasks, calls)
    for task, (about, tasks, calls) in _ABOUT.items()
    for workers in WORKERS
]
