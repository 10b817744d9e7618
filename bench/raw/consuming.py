"""Consuming from a full queue, acking each message or a hundred at once."""

import time
from collections.abc import Callable
from typing import Any

from bench.addresses import addresses
from bench.depth import connection
from bench.raw import Measure
from bench.raw.messages import QUEUE, fresh_queue
from bench.raw.publishing import pipelined

COUNT = 20_000
Consumer = Callable[[int, int, int], float]


class _Seen:
    """Counts deliveries and says when to ack which."""

    def __init__(self, count: int, every: int) -> None:
        self.count, self._every, self.seen, self.start = count, every, 0, 0.0

    def due(self) -> bool:
        """One more has come; whether an ack is due."""
        if not self.seen:
            self.start = time.perf_counter()
        self.seen += 1
        return self.seen % self._every == 0 or self.all

    @property
    def multiple(self) -> bool:
        """Whether an ack stands for those before it."""
        return self._every > 1

    @property
    def all(self) -> bool:
        """Whether this was the last one."""
        return self.seen >= self.count

    def rate(self) -> float:
        """Messages a second since the first."""
        return self.seen / (time.perf_counter() - self.start)


def by_py_amqp(count: int, prefetch: int, every: int) -> float:
    """py-amqp, as kombu uses it."""
    opened = connection()
    channel, seen = opened.channel(), _Seen(count, every)
    channel.basic_qos(0, prefetch, False)

    def came(message: Any) -> None:
        if seen.due():
            channel.basic_ack(message.delivery_tag, multiple=seen.multiple)

    channel.basic_consume(QUEUE, callback=came)
    while not seen.all:
        opened.drain_events(timeout=20)
    rate = seen.rate()
    opened.close()
    return rate


def by_pika(count: int, prefetch: int, every: int) -> float:
    """pika's SelectConnection."""
    import pika

    seen = _Seen(count, every)
    rates: list[float] = []

    def came(channel: Any, method: Any, _properties: Any, _payload: bytes) -> None:
        if seen.due():
            channel.basic_ack(method.delivery_tag, multiple=seen.multiple)
        if seen.all:
            rates.append(seen.rate())
            opening.close()

    def opened(channel: Any) -> None:
        channel.basic_qos(prefetch_count=prefetch, callback=lambda _: channel.basic_consume(QUEUE, came))

    opening = pika.SelectConnection(
        pika.URLParameters(addresses().vhost),
        on_open_callback=lambda one: one.channel(on_open_callback=opened),
        on_close_callback=lambda one, _reason: one.ioloop.stop(),
    )
    opening.ioloop.start()
    return rates[0]


def _consume(how: Consumer, prefetch: int, every: int) -> Measure:
    def measure() -> float:
        fresh_queue("quorum")
        pipelined(COUNT)
        return how(COUNT, prefetch, every)

    return measure


MEASURES: dict[str, Measure] = {
    f"consume {name} prefetch {prefetch}, ack every {every}, quorum": _consume(how, prefetch, every)
    for name, how in (("py-amqp", by_py_amqp), ("pika", by_pika))
    for prefetch, every in ((1000, 1), (1000, 100), (200, 100))
}
