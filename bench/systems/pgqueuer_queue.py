"""PgQueuer: no broker, the queue is in Postgres, everything in batches."""

import asyncio
import json
from datetime import timedelta
from time import perf_counter
from typing import Any

from bench import bank
from bench.system import System, database_url, python, span_query


class PgQueuer(System):
    """Two processes, batches of a hundred.

    Args:
        together: jobs that are enqueued in one statement.
    """

    durability = (
        "job and its end in Postgres with fsync, in batches; no broker; what a task returns is not kept"
    )
    broker = "postgres"
    waiting = "its CompletionWatcher, debounced by 10 ms"

    def __init__(self, name: str, about: str, together: int = 1, tasks: int = 5000) -> None:
        super().__init__(name)
        self.about, self._together, self.tasks = about, together, tasks

    def create(self) -> None:
        asyncio.run(self._install())

    async def _install(self) -> None:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries

        from bench.addresses import addresses

        connection = await asyncpg.connect(addresses().database(self.database))
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    def workers(self) -> list[list[str]]:
        return [python("-m", "bench.systems.pgqueuer_app") for _ in range(2)]

    def done(self) -> int:
        return int(self.query("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")[0])

    def span(self, tasks: int) -> tuple[float, float]:
        first, last = self.query(span_query("created", "pgqueuer_log", "status = 'successful'"))
        return first, last

    def publish(self, first: int, count: int) -> float:
        return asyncio.run(self._publish(first, count, self._together))

    def fill(self, first: int, count: int) -> float:
        return asyncio.run(self._publish(first, count, 100))

    async def _publish(self, first: int, count: int, together: int) -> float:
        connection, _, queries = await _queries()
        start = perf_counter()
        for begin in range(first, first + count, together):
            payloads = [_payload(serial) for serial in range(begin, min(begin + together, first + count))]
            if together == 1:
                await queries.enqueue("work", payloads[0])
            else:
                await queries.enqueue(["work"] * len(payloads), payloads, [0] * len(payloads))
        taken = perf_counter() - start
        await connection.close()
        return taken

    def latency(self, first: int, count: int) -> list[float]:
        return asyncio.run(self._latency(first, count))

    async def _latency(self, first: int, count: int) -> list[float]:
        from pgqueuer.core.completion import CompletionWatcher

        connection, driver, queries = await _queries()
        taken = []
        debounce = timedelta(milliseconds=10)
        async with CompletionWatcher(driver, queries=queries, debounce=debounce) as watcher:
            for serial in range(first, first + count + 1):
                start = perf_counter()
                (job,) = await queries.enqueue("work", _payload(serial))
                await watcher.wait_for(job)
                taken.append(perf_counter() - start)
        await connection.close()
        return taken[1:]


async def _queries() -> tuple[Any, Any, Any]:
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    connection = await asyncpg.connect(database_url())
    driver = AsyncpgDriver(connection)
    return connection, driver, Queries(driver)


def _payload(serial: int) -> bytes:
    return json.dumps({"serial": serial, "account": serial % bank.ACCOUNTS, "amount": 1}).encode()


SYSTEMS = [
    PgQueuer("pgqueuer", "PgQueuer, 2 processes, batches of 100; states only, nothing returned"),
    PgQueuer("pgqueuer-batch", "as pgqueuer, 100 enqueued at once", together=100, tasks=20000),
]
