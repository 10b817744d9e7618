"""Taskiq: the nearest to ours, RabbitMQ and a durable result in Postgres before the ack."""

import asyncio
from time import perf_counter

import psycopg2

from bench import bank
from bench.system import System, script


class Taskiq(System):
    """Two processes; asynchronous tasks.

    Args:
        together: publishes that are under way at once.
    """

    waiting = "wait_result(check_interval=0.01)"
    tasks = 4000

    def __init__(self, name: str, about: str, together: int = 1) -> None:
        super().__init__(name)
        self.about, self._together = about, together

    def workers(self) -> list[list[str]]:
        options = (
            "-w",
            "2",
            "--ack-type",
            "when_saved",
            "--max-async-tasks",
            "100",
            "--log-level",
            "WARNING",
        )
        return [script("taskiq", "worker", "bench.systems.taskiq_app:broker", *options)]

    def done(self) -> int:
        try:
            return int(self.query("SELECT count(*) FROM taskiq_results")[0])
        except psycopg2.errors.UndefinedTable:
            return 0

    def publish(self, first: int, count: int) -> float:
        return asyncio.run(self._publish(first, count))

    async def _publish(self, first: int, count: int) -> float:
        from bench.systems.taskiq_app import broker, work

        await broker.startup()
        start = perf_counter()
        for begin in range(first, first + count, self._together):
            serials = range(begin, min(begin + self._together, first + count))
            await asyncio.gather(*(work.kiq(serial, serial % bank.ACCOUNTS, 1) for serial in serials))
        taken = perf_counter() - start
        await broker.shutdown()
        return taken

    def latency(self, first: int, count: int) -> list[float]:
        return asyncio.run(self._latency(first, count))

    async def _latency(self, first: int, count: int) -> list[float]:
        from bench.systems.taskiq_app import broker, work

        await broker.startup()
        taken = []
        for serial in range(first, first + count + 1):
            start = perf_counter()
            task = await work.kiq(serial, serial % bank.ACCOUNTS, 1)
            await task.wait_result(check_interval=0.01, timeout=30)
            taken.append(perf_counter() - start)
        await broker.shutdown()
        return taken[1:]


SYSTEMS = [
    Taskiq("taskiq", "Taskiq, 2 processes, results in Postgres (no start times)"),
    Taskiq("taskiq-gather", "as taskiq, 100 publishes at once", together=100),
]
