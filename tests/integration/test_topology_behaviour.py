"""What the declared shape makes a real broker do: nothing rejected, unroutable or refused gets lost."""

from dataclasses import replace
from typing import Any

import pika
import pika.exceptions
import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.shape import Alternate, DeadLetter, Exchange, Queue, Topology
from reliable_tasks.operate import topology as operate
from tests.integration.applied_topology import TOPOLOGY, applied, take
from tests.waiting import wait_until

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def with_default_queue(**options: Any) -> Topology:
    """This repository's topology with other options on its default queue."""
    queues = [replace(q, **options) if q.name == "default" else q for q in TOPOLOGY.queues]
    return replace(TOPOLOGY, queues=tuple(queues))


def test_unroutable_command_comes_back(fresh_vhost: str, management: Management, channel: Any) -> None:
    applied(TOPOLOGY, management, fresh_vhost)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("commands", "paymets", b"x", PERSISTENT, mandatory=True)


def test_rejected_message_of_every_level_reaches_the_dead_letter_queue_of_its_lane(
    reliable_stack: Stack, fresh_vhost: str, management: Management, channel: Any
) -> None:
    applied(TOPOLOGY, management, fresh_vhost)
    capabilities = Capabilities.for_version(reliable_stack.rabbitmq_version)
    for queue in TOPOLOGY.queues:
        for priority in range(queue.levels):
            route = TOPOLOGY.route(queue.name, priority, capabilities)
            channel.basic_publish(route.exchange, route.routing_key, b"x", PERSISTENT, mandatory=True)
            method, _, _ = take(channel, route.queue)
            channel.basic_reject(method.delivery_tag, requeue=False)
            method, properties, _ = take(channel, queue.dead_letter.queue)
            assert properties.headers["x-death"][0]["queue"] == route.queue
            assert properties.headers["x-death"][0]["reason"] == "rejected"
            channel.basic_ack(method.delivery_tag)


def test_delivery_limit_is_a_backstop(fresh_vhost: str, management: Management, channel: Any) -> None:
    applied(with_default_queue(delivery_limit=2), management, fresh_vhost)
    channel.basic_publish("commands", "default", b"poison", PERSISTENT, mandatory=True)
    for _ in range(3):
        method, _, _ = take(channel, "default")
        channel.basic_reject(method.delivery_tag, requeue=True)
    _, properties, body = take(channel, "default.dead")
    assert body == b"poison"
    assert properties.headers["x-death"][0]["reason"] == "delivery_limit"


def test_full_queue_tells_the_publisher(fresh_vhost: str, management: Management, channel: Any) -> None:
    applied(with_default_queue(max_length=1), management, fresh_vhost)

    def refused() -> bool:
        try:
            channel.basic_publish("commands", "default", b"x", PERSISTENT, mandatory=True)
        except pika.exceptions.NackError:
            return True
        return False

    wait_until(refused, "a full queue to refuse a message")


def test_dead_letter_queue_survives_being_looked_at(
    fresh_vhost: str, management: Management, channel: Any
) -> None:
    applied(TOPOLOGY, management, fresh_vhost)
    channel.basic_publish("dead-letters", "payments.dead", b"x", PERSISTENT, mandatory=True)
    for _ in range(40):
        method, _, body = take(channel, "payments.dead")
        channel.basic_reject(method.delivery_tag, requeue=True)
    assert body == b"x"


def test_unroutable_message_of_another_exchange_is_collected(
    fresh_vhost: str, management: Management, channel: Any
) -> None:
    events = Exchange("events", "topic", alternate=Alternate("unrouted", "unroutable"))
    declared = replace(TOPOLOGY, exchanges=(*TOPOLOGY.exchanges, events, Exchange("unrouted", "fanout")))
    applied(declared, management, fresh_vhost)
    channel.basic_publish("events", "nobody.listens", b"x", PERSISTENT, mandatory=True)
    assert take(channel, "unroutable")[2] == b"x"
    assert not operate.plan(declared, management).differs


def test_depths_count_messages(fresh_vhost: str, management: Management, channel: Any) -> None:
    shape = Topology(
        (Exchange("commands", "direct"), Exchange("dead-letters", "direct")),
        (Queue("default", DeadLetter("dead-letters", "default.dead")),),
        "default",
    )
    applied(shape, management, fresh_vhost)
    for _ in range(3):
        channel.basic_publish("commands", "default", b"x", PERSISTENT, mandatory=True)
    depth = wait_until(lambda: management.depths()["default"].messages and management.depths(), "the count")
    assert (depth["default"].messages, depth["default"].ready, depth["default"].unacked) == (3, 3, 0)
    assert depth["default.dead"].messages == 0
