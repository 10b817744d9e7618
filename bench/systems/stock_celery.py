"""Celery: the reliable set-up of its manual on RabbitMQ, its variants, and the ones on Redis."""

import os
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import psycopg2

from bench import bank, clean
from bench.depth import ready
from bench.system import System, script, span_query, timed_calls

_STORES = {"db": "postgres", "redis": "redis", "none": "none"}
_NO_RESULT = "quorum queue, confirmed publish; no result is kept, so nothing is durable but the message"
_BY_HAND = (
    "as ours, but the effect commits by itself and the result in two more transactions: a crash between them leaves "
    "an effect without a result until the message comes again"
)
_CLASSIC = "classic durable queue on one node, confirmed publish; results in Postgres with fsync"
_REDIS = "Redis with its log synced each second: a crash can lose a second of tasks"


class StockCelery(System):
    """One set-up of Celery."""

    def __init__(
        self,
        name: str,
        about: str,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        nodes: int = 1,
        broker: str = "quorum",
        results: str = "db",
        started: bool = True,
        prefetch: int = 4,
        engine: str = "",
        interval: str = "0.01",
        tasks: int = 1000,
        calls: int = 100,
        transfers: bool = False,
    ) -> None:
        variables = {"BENCH_BROKER": broker, "BENCH_RESULTS": results, "BENCH_STARTED": str(int(started))}
        more = {"BENCH_PREFETCH": str(prefetch), "BENCH_ENGINE": engine, "BENCH_INTERVAL": interval}
        super().__init__(name, **variables, **more)
        self.about, self.tasks, self.calls, self.transfers = about, tasks, calls, transfers
        self.waiting = (
            f"AsyncResult.get(interval={interval})" if interval else "AsyncResult.get with its defaults"
        )
        self.result_store = _STORES[results]
        self.broker = "redis" if broker == "redis" else "rabbitmq"
        if transfers:
            self.durability = _BY_HAND
        if results == "none":
            self.durability = _NO_RESULT
        if broker == "classic":
            self.durability = _CLASSIC
        if "redis" in (broker, results):
            self.durability = _REDIS
        self._pool, self._concurrency, self._nodes = pool, concurrency, nodes

    def workers(self) -> list[list[str]]:
        options = ("-P", self._pool, "-c", str(self._concurrency), "-l", "WARNING")
        program = ("celery", "-A", "bench.systems.stock_celery_app", "worker", *options)
        return [script(*program, "-n", f"bench{node}@%h") for node in range(self._nodes)]

    def done(self) -> int:
        if self.result_store == "redis":
            return int(clean.redis_client(1).dbsize())
        if self.result_store == "none":
            # nothing tells more: what has left the queue, which is too much by what is prefetched
            return self.published - ready("bench")
        try:
            return int(self.query("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'")[0])
        except psycopg2.errors.UndefinedTable:
            return 0

    def span(self, tasks: int) -> tuple[float, float] | None:
        if self.result_store != "postgres":
            return None
        first, last = self.query(span_query("date_done", "celery_taskmeta", "status = 'SUCCESS'"))
        return first, last

    def publish(self, first: int, count: int) -> float:
        from bench.systems.stock_celery_app import app

        with app.connection_for_write() as connection:
            connection.ensure_connection()
            for queue in app.conf.task_queues or []:
                queue(connection.default_channel).declare()
        self._send(first)  # the first call imports, connects and declares
        start = perf_counter()
        for serial in range(first + 1, first + count):
            self._send(serial)
        return (perf_counter() - start) * count / max(count - 1, 1)

    def latency(self, first: int, count: int) -> list[float]:
        interval = os.environ.get("BENCH_INTERVAL")
        options = {"interval": float(interval)} if interval else {}
        return timed_calls(lambda serial: self._send(serial).get(timeout=30, **options), first, count)

    def chord(self, first: int, count: int) -> float:
        """Seconds from sending a chord to its result."""
        from celery import chord

        from bench.systems.stock_celery_app import number, total

        return run_chord(chord, number, total, count, interval=0.01)

    def _send(self, serial: int) -> Any:
        from bench.systems import stock_celery_app

        if self.transfers:
            return stock_celery_app.transfer.delay(serial, *bank.pair(serial), 1)
        return stock_celery_app.work.delay(serial, serial % bank.ACCOUNTS, 1)


def run_chord(chord: Any, number: Any, total: Any, count: int, **options: Any) -> float:
    """Seconds from sending a chord of `count` tasks to its result, which is checked."""
    # other numbers than those below: where they are keys, each runs once
    chord([number.s(-1), number.s(-2)])(total.s()).get(timeout=60, **options)
    start = perf_counter()
    answer = chord([number.s(n) for n in range(count)])(total.s()).get(timeout=120, **options)
    taken = perf_counter() - start
    if answer != sum(range(count)):
        raise RuntimeError(f"a chord of {count} came to {answer}")
    return taken


def _variants() -> Sequence[StockCelery]:
    none: dict[str, Any] = {"results": "none", "tasks": 6000, "calls": 0}
    return (
        StockCelery("celery-stock", "Celery prefork 2, quorum queue, db+postgresql, start times"),
        StockCelery("celery-nostarted", "as celery-stock, without start times", started=False),
        StockCelery("celery-prefork4", "as celery-stock, prefork 4", concurrency=4),
        StockCelery("celery-classic", "as celery-stock, classic queue", broker="classic"),
        StockCelery("celery-prefetch64", "as celery-stock, prefetch multiplier 64", prefetch=64),
        StockCelery("celery-threads8", "as celery-stock, threads 8", pool="threads", concurrency=8, tasks=300),
        StockCelery("celery-solo2-pooled", "as celery-stock, two solo nodes, engine kept by a patch",
                    pool="solo", concurrency=1, nodes=2, engine="pooled"),
        StockCelery("celery-noresult", "as celery-stock, ignore_result: broker and worker alone", **none),
        StockCelery("celery-noresult-solo2", "as celery-noresult, two solo nodes, prefetch 64",
                    pool="solo", concurrency=1, nodes=2, prefetch=64, **none),
        StockCelery("celery-noresult-threads2", "as celery-noresult, two nodes of threads 4",
                    pool="threads", concurrency=4, nodes=2, prefetch=16, **none),
        StockCelery("celery-redis", "Celery prefork 2, Redis as broker and for results",
                    broker="redis", results="redis", tasks=4000),
        StockCelery("celery-redis-pg", "Celery prefork 2, Redis as broker, db+postgresql", broker="redis"),
        StockCelery("celery-default-get", "as celery-stock, waiting as by default", interval="", calls=20, tasks=300),
        StockCelery("celery-transfer", "transfers by hand on celery-stock", transfers=True, calls=0),
        StockCelery("celery-transfer4", "as celery-transfer, prefork 4", transfers=True, concurrency=4, calls=0),
    )  # fmt: skip


SYSTEMS = list(_variants())
