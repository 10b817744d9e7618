"""Every row of the capability table, seen on the live broker: what is not so on this release is told here first."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pika.exceptions
import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.model.capabilities import Capabilities
from tests.impatience import PATIENCE_MS, impatient
from tests.integration.applied_topology import take
from tests.waiting import wait_until

QUORUM = {"x-queue-type": "quorum"}
PERSISTENT = pika.BasicProperties(delivery_mode=2)
MOST_TRIES = 30


@pytest.fixture
def connect(fresh_vhost: str) -> Iterator[Callable[[], Any]]:
    """Opens connections; those that are still open are closed at the end."""
    opened: list[Any] = []

    def open_one() -> Any:
        opened.append(pika.BlockingConnection(pika.URLParameters(fresh_vhost)))
        return opened[-1]

    yield open_one
    for connection in opened:
        if connection.is_open:
            connection.close()


def send(channel: Any, queue: str, body: bytes = b"x", **properties: Any) -> None:
    kept = pika.BasicProperties(delivery_mode=2, **properties)
    channel.basic_publish("", queue, body, kept, mandatory=True)


def declare(channel: Any, name: str, **arguments: Any) -> None:
    """A quorum queue; the arguments without their x-."""
    named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    channel.queue_declare(name, durable=True, arguments={**QUORUM, **named})


def refused(act: Callable[[], Any]) -> bool:
    """Whether the broker closes channel or connection instead."""
    try:
        act()
    except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker):
        return True
    return False


def deliveries(channel: Any, give_back: Callable[[int], None], queue: str, dead: str) -> int:
    """How often a message is delivered before its limit ends it; at most MOST_TRIES."""
    for count in range(MOST_TRIES):
        seen: list[Any] = []

        def arrived(seen: list[Any] = seen) -> bool:
            for name in (queue, dead):
                method, _, _ = channel.basic_get(name)
                if method is not None:
                    seen.append((name, method.delivery_tag))
            return bool(seen)

        wait_until(arrived, f"the message, in {queue} or {dead}")
        name, tag = seen[0]
        if name == dead:
            return count
        give_back(tag)
    return MOST_TRIES


def with_dead_letters(channel: Any, **arguments: Any) -> None:
    declare(channel, "dead")
    declare(channel, "work", dead_letter_exchange="", dead_letter_routing_key="dead", **arguments)


def test_strict_priorities(capabilities: Capabilities, channel: Any) -> None:
    declare(channel, "work")
    for priority in (0, 2, 1):
        send(channel, "work", b"%d" % priority, priority=priority)
    order = [take(channel, "work")[2] for _ in range(3)]
    assert order == ([b"2", b"1", b"0"] if capabilities.strict_priorities else [b"0", b"2", b"1"])


def test_a_message_without_priority_is_of_the_middle_where_priorities_are_strict(
    capabilities: Capabilities, channel: Any
) -> None:
    declare(channel, "work")
    send(channel, "work", b"3", priority=3)
    send(channel, "work", b"none")
    send(channel, "work", b"5", priority=5)
    order = [take(channel, "work")[2] for _ in range(3)]
    assert (order == [b"5", b"none", b"3"]) is capabilities.strict_priorities


def test_default_delivery_limit(capabilities: Capabilities, channel: Any) -> None:
    with_dead_letters(channel)
    send(channel, "work")
    count = deliveries(channel, lambda tag: channel.basic_reject(tag, requeue=True), "work", "dead")
    limit = capabilities.default_delivery_limit
    assert count == (MOST_TRIES if limit is None else limit + 1)


def test_delivery_limit_can_be_off(capabilities: Capabilities, channel: Any) -> None:
    with_dead_letters(channel, delivery_limit=-1)
    send(channel, "work")
    count = deliveries(channel, lambda tag: channel.basic_reject(tag, requeue=True), "work", "dead")
    assert count == (MOST_TRIES if capabilities.delivery_limit_can_be_off else 1)


def test_a_declared_delivery_limit_ends_what_is_rejected(channel: Any) -> None:
    with_dead_letters(channel, delivery_limit=3)
    send(channel, "work")
    assert deliveries(channel, lambda tag: channel.basic_reject(tag, requeue=True), "work", "dead") == 4


def test_nack_counts(capabilities: Capabilities, channel: Any) -> None:
    with_dead_letters(channel, delivery_limit=3)
    send(channel, "work")
    count = deliveries(channel, lambda tag: channel.basic_nack(tag, requeue=True), "work", "dead")
    assert count == (4 if capabilities.nack_counts else MOST_TRIES)


def test_a_lost_channel_counts_on_every_release(connect: Callable[[], Any], channel: Any) -> None:
    with_dead_letters(channel, delivery_limit=1)
    send(channel, "work")
    for _ in range(2):
        other = connect()
        take(other.channel(), "work")
        other.close()
    assert take(channel, "dead")[1].headers["x-death"][0]["reason"] == "delivery_limit"


def test_client_deaths_honoured(capabilities: Capabilities, channel: Any) -> None:
    with_dead_letters(channel)
    made_up = {"queue": "work", "reason": "rejected", "exchange": "", "routing-keys": ["work"], "count": 7}
    send(channel, "work", headers={"x-death": [made_up]})
    channel.basic_reject(take(channel, "work")[0].delivery_tag, requeue=False)
    (death,) = take(channel, "dead")[1].headers["x-death"]
    assert death["count"] == (8 if capabilities.client_deaths_honoured else 1)


def test_max_message_bytes(capabilities: Capabilities, channel: Any) -> None:
    declare(channel, "work")
    send(channel, "work", bytes(16 * 1024 * 1024))
    too_large = bytes(capabilities.max_message_bytes + 1)
    assert refused(lambda: send(channel, "work", too_large))


def test_at_least_once_dead_letters(capabilities: Capabilities, management: Management, channel: Any) -> None:
    declare(
        channel,
        "work",
        dead_letter_exchange="",
        dead_letter_routing_key="dead",
        dead_letter_strategy="at-least-once",
        overflow="reject-publish",
    )
    send(channel, "work")
    channel.basic_reject(take(channel, "work")[0].delivery_tag, requeue=False)

    def held() -> bool:
        # no queue has taken it: it is neither ready nor with a consumer, and still there
        depth = management.depths()["work"]
        return (depth.messages, depth.ready, depth.unacked) == (1, 0, 0)

    wait_until(held, "the dead letter to be held back")
    assert capabilities.at_least_once_dead_letters


def test_consumer_timeout_closes(
    capabilities: Capabilities, reliable_stack: Stack, connect: Callable[[], Any], channel: Any
) -> None:
    with_dead_letters(channel, delivery_limit=0)
    send(channel, "work")
    with impatient(reliable_stack):
        lost = hold(connect())
    assert lost == capabilities.consumer_timeout_closes
    if capabilities.consumer_timeout_counts:
        assert take(channel, "dead")[1].headers["x-death"][0]["reason"] == "delivery_limit"
    else:
        assert take(channel, "work")[0].redelivered


def test_consumer_timeout_per_queue(
    capabilities: Capabilities, reliable_stack: Stack, connect: Callable[[], Any], channel: Any
) -> None:
    declare(channel, "work", consumer_timeout=PATIENCE_MS)
    send(channel, "work")
    # a queue that knows no argument of that name would keep the patience of the whole broker
    with impatient(reliable_stack, 5 * PATIENCE_MS):
        started = time.monotonic()
        hold(connect())
        sooner = time.monotonic() - started < 4 * PATIENCE_MS / 1000
    assert sooner is capabilities.consumer_timeout_per_queue


def hold(connection: Any) -> str:
    """Hold a message of `work` until the broker takes it back; returns what is lost with it."""
    channel = connection.channel()
    held: list[Any] = []
    cancelled: list[Any] = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_consume("work", lambda *delivery: held.append(delivery))

    def taken_back() -> bool:
        connection.process_data_events(0.1)
        return bool(held) and (bool(cancelled) or channel.is_closed)

    wait_until(taken_back, "the broker to take the message back", 40)
    return "consumer" if channel.is_open else "channel"


def test_transient_queues(capabilities: Capabilities, connect: Callable[[], Any]) -> None:
    asked = connect().channel()
    assert refused(lambda: asked.queue_declare("passing", durable=False)) is not capabilities.transient_queues


def test_exclusive_queues_are_taken_on_every_release(channel: Any) -> None:
    channel.queue_declare("mine", durable=False, exclusive=True, auto_delete=True)


def test_global_prefetch(capabilities: Capabilities, connect: Callable[[], Any], channel: Any) -> None:
    channel.queue_declare("classic", durable=True)
    for _ in range(6):
        send(channel, "classic")
    connection, got = connect(), []
    limited = connection.channel()
    limited.basic_qos(prefetch_count=2, global_qos=True)
    for _ in range(2):
        limited.basic_consume("classic", lambda *delivery: got.append(delivery))

    def taken() -> bool:
        connection.process_data_events(0.1)
        # none is ready that a consumer may have
        ready = channel.queue_declare("classic", passive=True).method.message_count
        return ready == 6 - len(got) and len(got) == (2 if capabilities.global_prefetch else 4)

    wait_until(taken, "what the prefetch allows")
