"""DBOS: no broker, workflows in Postgres."""

import time
from typing import Any

import psycopg2

from bench import bank
from bench.system import System, database_url, python, timed_calls
from bench.workers import running

START_SECONDS = 30


class Dbos(System):
    """Two processes of four threads."""

    durability = "workflow and its result in Postgres with fsync; no broker"
    broker = "postgres"

    def __init__(
        self,
        name: str,
        about: str,
        workflow: str = "work",
        *,
        poll: float = 0.05,
        waiting: float = 0.01,
        isolation: str = "READ COMMITTED",
        tasks: int = 2000,
        calls: int = 100,
    ) -> None:
        self.transfers = workflow == "transfer"
        bank_variable = "1" if self.transfers else ""
        super().__init__(name, BENCH_POLL=str(poll), BENCH_ISOLATION=isolation, BENCH_BANK=bank_variable)
        self.about, self.tasks, self.calls = about, tasks, calls
        self.waiting = f"get_result(polling_interval_sec={waiting}), queue polled each {poll} s"
        self._workflow, self._interval = workflow, waiting

    def create(self) -> None:
        """Let workers start once: they make schema and queue."""
        with running(self):
            end = time.monotonic() + START_SECONDS
            while not self._registered():
                if time.monotonic() > end:
                    raise RuntimeError(f"DBOS has not registered its queue within {START_SECONDS} s")
                time.sleep(0.1)  # between questions to the database
        self.close()

    def workers(self) -> list[list[str]]:
        return [python("-m", "bench.systems.dbos_app") for _ in range(2)]

    def done(self) -> int:
        condition = f"status = 'SUCCESS' AND name = '{self._workflow}'"
        return int(self.query(f"SELECT count(*) FROM dbos.workflow_status WHERE {condition}")[0])

    def span(self, tasks: int) -> tuple[float, float]:
        first, last = self.query(
            "SELECT percentile_disc(0.1) WITHIN GROUP (ORDER BY updated_at)::float8 / 1000,"
            f" max(updated_at)::float8 / 1000 FROM dbos.workflow_status WHERE name = '{self._workflow}'"
        )
        return first, last

    def publish(self, first: int, count: int) -> float:
        client = _client()
        start = time.perf_counter()
        for serial in range(first, first + count):
            self._send(client, serial)
        taken = time.perf_counter() - start
        client.destroy()
        return taken

    def latency(self, first: int, count: int) -> list[float]:
        client = _client()

        def call(serial: int) -> None:
            self._send(client, serial).get_result(polling_interval_sec=self._interval)

        taken = timed_calls(call, first, count)
        client.destroy()
        return taken

    def _send(self, client: Any, serial: int) -> Any:
        options = {"workflow_name": self._workflow, "queue_name": "bench", "app_version": "1"}
        arguments = bank.pair(serial) if self.transfers else (serial % bank.ACCOUNTS,)
        return client.enqueue(options, serial, *arguments, 1)

    def _registered(self) -> bool:
        try:
            return bool(self.query("SELECT count(*) FROM dbos.queues WHERE name = 'bench'")[0])
        except psycopg2.Error:
            return False


def _client() -> Any:
    from dbos import DBOSClient

    return DBOSClient(system_database_url=database_url(), application_name="bench")


SYSTEMS = [
    Dbos("dbos", "DBOS, 2 processes of 4 threads"),
    Dbos("dbos-step", "as dbos, with a step", "work_step", tasks=800),
    Dbos("dbos-default-poll", "as dbos, polling as by default", poll=1.0, waiting=1.0, tasks=300, calls=10),
    Dbos("dbos-transfer", "transfers as a transaction step", "transfer", tasks=500),
    Dbos("dbos-transfer-serializable", "as dbos-transfer, SERIALIZABLE as by default", "transfer",
         isolation="SERIALIZABLE", tasks=500, calls=0),
]  # fmt: skip
