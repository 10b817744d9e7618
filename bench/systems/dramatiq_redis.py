"""Dramatiq: RabbitMQ with confirms, results in Redis."""

from time import perf_counter

from bench import bank, clean
from bench.system import System, script, timed_calls


class Dramatiq(System):
    """Two processes of eight threads."""

    durability = (
        "classic durable queue (it has no quorum queues), confirmed publish; results in Redis with its log synced "
        "each second, so a crash can lose a second of them"
    )
    result_store = "redis"
    waiting = "get_result(block=True)"
    tasks = 6000

    def __init__(self, name: str, about: str) -> None:
        super().__init__(name)
        self.about = about

    def workers(self) -> list[list[str]]:
        return [script("dramatiq", "bench.systems.dramatiq_app", "-p", "2", "-t", "8")]

    def done(self) -> int:
        return int(clean.redis_client(1).dbsize())

    def publish(self, first: int, count: int) -> float:
        from bench.systems import dramatiq_app

        dramatiq_app.broker.declare_queue("bench", ensure=True)
        dramatiq_app.work.send(first, first % bank.ACCOUNTS, 1)
        start = perf_counter()
        for serial in range(first + 1, first + count):
            dramatiq_app.work.send(serial, serial % bank.ACCOUNTS, 1)
        return (perf_counter() - start) * count / max(count - 1, 1)

    def latency(self, first: int, count: int) -> list[float]:
        from bench.systems import dramatiq_app

        def call(serial: int) -> None:
            dramatiq_app.work.send(serial, serial % bank.ACCOUNTS, 1).get_result(block=True, timeout=30000)

        return timed_calls(call, first, count)


SYSTEMS = [Dramatiq("dramatiq", "Dramatiq, 2 processes of 8 threads, results in Redis")]
