"""Procrastinate: no broker, the queue is in Postgres."""

import subprocess
import time
from typing import Any

from bench import bank
from bench.system import System, script, span_query, timed_calls

_PROGRAM = ("procrastinate", "--app", "bench.systems.procrastinate_app.app")


class Procrastinate(System):
    """Two workers of eight asynchronous tasks.

    Args:
        together: jobs that are deferred in one statement.
    """

    durability = "job and its end in Postgres with fsync; no broker; what a task returns is not kept"
    broker = "postgres"
    waiting = "its job's state, asked each 10 ms: it has nothing to wait with"

    def __init__(self, name: str, about: str, together: int = 1, *, transfers: bool = False) -> None:
        super().__init__(name)
        self.about, self._together, self.transfers = about, together, transfers

    def create(self) -> None:
        schema = script(*_PROGRAM, "schema", "--apply")
        subprocess.run(schema, env=self.environment(), check=True, capture_output=True)

    def workers(self) -> list[list[str]]:
        return [script(*_PROGRAM, "--log-level", "error", "worker", "--concurrency", "8") for _ in range(2)]

    def done(self) -> int:
        return int(self.query("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")[0])

    def span(self, tasks: int) -> tuple[float, float]:
        first, last = self.query(span_query("at", "procrastinate_events", "type = 'succeeded'"))
        return first, last

    def publish(self, first: int, count: int) -> float:
        from bench.systems.procrastinate_app import app

        task = self._task()
        with app.open():
            start = time.perf_counter()
            for begin in range(first, first + count, self._together):
                serials = range(begin, min(begin + self._together, first + count))
                if self._together == 1:
                    task.defer(**self._arguments(begin))
                else:
                    task.batch_defer(*map(self._arguments, serials))
            return time.perf_counter() - start

    def latency(self, first: int, count: int) -> list[float]:
        from bench.systems.procrastinate_app import app

        task = self._task()
        with app.open():

            def call(serial: int) -> None:
                job = task.defer(**self._arguments(serial))
                while app.job_manager.get_job_status(job).value != "succeeded":
                    time.sleep(0.01)  # it offers no wait for a result: who wants one asks

            return timed_calls(call, first, count)

    def _task(self) -> Any:
        from bench.systems import procrastinate_app

        return procrastinate_app.transfer if self.transfers else procrastinate_app.work

    def _arguments(self, serial: int) -> dict[str, int]:
        if self.transfers:
            source, target = bank.pair(serial)
            return {"serial": serial, "source": source, "target": target, "amount": 1}
        return {"serial": serial, "account": serial % bank.ACCOUNTS, "amount": 1}


SYSTEMS = [
    Procrastinate("procrastinate", "Procrastinate, 2 workers of 8; state only, nothing returned"),
    Procrastinate("procrastinate-batch", "as procrastinate, 100 deferred at once", together=100),
    Procrastinate("procrastinate-transfer", "transfers by hand on procrastinate", transfers=True),
]
