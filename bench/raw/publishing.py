"""Confirmed publishing: one at a time, and with a window of messages whose confirms are outstanding."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import amqp

from bench.addresses import addresses
from bench.depth import connection, ready
from bench.raw import OUR_BYTES, Measure
from bench.raw.messages import PERSISTENT, QUEUE, body, fresh_queue
from bench.systems import ours
from reliable_tasks.broker.wire import Wire
from reliable_tasks.model.shape import Route

MANY, FEW, WINDOW = 20_000, 2_000, 500
Publisher = Callable[[int], float]


class _Confirmed:
    """How many were confirmed: in any order, and a `multiple` for all up to its tag."""

    def __init__(self) -> None:
        self.count = 0

    def acked(self, tag: int, multiple: bool) -> None:
        """The broker has confirmed."""
        self.count = max(self.count + 1, tag if multiple else 0)


def pipelined(count: int, window: int = WINDOW) -> float:
    """py-amqp with at most `window` unconfirmed; queues are filled by it, too."""
    opened = connection()
    channel, confirmed = opened.channel(), _Confirmed()
    channel.confirm_select()
    channel.events["basic_ack"].add(confirmed.acked)
    messages = [amqp.Message(body(serial), delivery_mode=PERSISTENT) for serial in range(count)]
    publish = partial(channel._basic_publish, exchange="", routing_key=QUEUE)
    return _rate(opened, confirmed, messages, publish, window)


def of_our_bytes(count: int) -> float:
    """The frames of as many of our messages, written down beforehand: what headers cost, and not who makes them."""
    opened = connection()
    channel, confirmed = opened.channel(), _Confirmed()
    channel.confirm_select()
    channel.events["basic_ack"].add(confirmed.acked)
    wire, route = Wire(channel.channel_id, opened.frame_max), Route("", QUEUE, QUEUE)
    frames = [wire.published(message, route) for message in ours.messages(count)]
    return _rate(opened, confirmed, frames, opened.transport.write, WINDOW)


def _rate(
    opened: Any, confirmed: _Confirmed, prepared: Sequence[Any], send: Callable[[Any], Any], window: int
) -> float:
    """Send all, with at most `window` unconfirmed, until all are confirmed; then close the connection."""
    start = time.perf_counter()
    for sent, one in enumerate(prepared, 1):
        send(one)
        while sent - confirmed.count >= window:
            opened.drain_events()
    while confirmed.count < len(prepared):
        opened.drain_events(timeout=10)
    rate = len(prepared) / (time.perf_counter() - start)
    opened.close()
    return rate


def one_by_one(count: int) -> float:
    """py-amqp's basic_publish_confirm: what kombu does for each message."""
    opened = connection()
    channel = opened.channel()
    channel.confirm_select()
    messages = [amqp.Message(body(serial), delivery_mode=PERSISTENT) for serial in range(count)]
    start = time.perf_counter()
    for message in messages:
        channel.basic_publish_confirm(message, exchange="", routing_key=QUEUE)
    rate = count / (time.perf_counter() - start)
    opened.close()
    return rate


def pika_one_by_one(count: int) -> float:
    """pika's BlockingConnection with confirm_delivery."""
    import pika

    opened = pika.BlockingConnection(pika.URLParameters(addresses().vhost))
    channel = opened.channel()
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=PERSISTENT)
    messages = [body(serial) for serial in range(count)]
    start = time.perf_counter()
    for message in messages:
        channel.basic_publish("", QUEUE, message, properties)
    rate = count / (time.perf_counter() - start)
    opened.close()
    return rate


def pika_pipelined(count: int) -> float:
    """pika's SelectConnection with a window."""
    import pika

    messages, confirmed = [body(serial) for serial in range(count)], _Confirmed()
    properties = pika.BasicProperties(delivery_mode=PERSISTENT)
    moments: dict[str, float] = {}
    sent = 0

    def pump(channel: Any) -> None:
        nonlocal sent
        while sent < count and sent - confirmed.count < WINDOW:
            channel.basic_publish("", QUEUE, messages[sent], properties)
            sent += 1

    def answered(channel: Any, frame: Any) -> None:
        confirmed.acked(frame.method.delivery_tag, frame.method.multiple)
        if confirmed.count >= count:
            moments["end"] = time.perf_counter()
            opening.close()
        else:
            pump(channel)

    def opened(channel: Any) -> None:
        channel.confirm_delivery(lambda frame: answered(channel, frame))
        moments["start"] = time.perf_counter()
        pump(channel)

    opening = pika.SelectConnection(
        pika.URLParameters(addresses().vhost),
        on_open_callback=lambda one: one.channel(on_open_callback=opened),
        on_close_callback=lambda one, _reason: one.ioloop.stop(),
    )
    opening.ioloop.start()
    return count / (moments["end"] - moments["start"])


def aio_pika_gathered(count: int) -> float:
    """aio-pika, a window gathered at a time."""
    return asyncio.run(_aio_pika_gathered(count))


async def _aio_pika_gathered(count: int) -> float:
    import aio_pika

    opened = await aio_pika.connect(addresses().vhost)
    channel = await opened.channel(publisher_confirms=True)
    messages = [aio_pika.Message(body(serial), delivery_mode=PERSISTENT) for serial in range(count)]
    start = time.perf_counter()
    for begin in range(0, count, WINDOW):
        window = messages[begin : begin + WINDOW]
        await asyncio.gather(*(channel.default_exchange.publish(one, routing_key=QUEUE) for one in window))
    rate = count / (time.perf_counter() - start)
    await opened.close()
    return rate


def _publish(kind: str, how: Publisher, count: int) -> Measure:
    def measure() -> float:
        fresh_queue(kind)
        rate = how(count)
        time.sleep(0.3)  # a quorum queue counts what it has confirmed a moment later
        if (found := ready(QUEUE)) != count:
            raise RuntimeError(f"{found} of {count} messages are in the queue")
        return rate

    return measure


def _window(size: int) -> Publisher:
    return lambda count: pipelined(count, size)


MEASURES: dict[str, Measure] = {
    f"publish {name}, {kind}": _publish(kind, how, count)
    for kind in ("quorum", "classic")
    for name, how, count in (
        (f"py-amqp window {WINDOW}", pipelined, MANY),
        ("py-amqp one at a time", one_by_one, FEW),
        ("pika one at a time", pika_one_by_one, FEW),
        (f"pika window {WINDOW}", pika_pipelined, MANY),
        (f"aio-pika window {WINDOW}", aio_pika_gathered, MANY // 2),
    )
}
MEASURES |= {
    f"publish py-amqp window {size}, quorum": _publish("quorum", _window(size), MANY)
    for size in (10, 100, 2000)
}
MEASURES[OUR_BYTES] = _publish("quorum", of_our_bytes, MANY)
