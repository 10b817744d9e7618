"""The declared shape: what it becomes on each broker version, and which mixes are refused."""

from collections.abc import Callable
from typing import Any

import pytest

from reliable_tasks.errors import ArgumentError, ConfigurationError, ShapeError, UnknownQueue
from reliable_tasks.model.capabilities import TABLE, Capabilities
from reliable_tasks.model.physical import Binding
from reliable_tasks.model.shape import Alternate, DeadLetter, Exchange, Queue, Route, Topology
from reliable_tasks.model.shape_loading import load_topology

OLD = Capabilities.for_version("3.10.8")
NEW = Capabilities.for_version("4.3.6")


def lane(name: str, **options: Any) -> Queue:
    return Queue(name, **{"dead_letter": DeadLetter("dead-letters", f"{name}.dead"), **options})


def shape(*queues: Queue, exchanges: tuple[Exchange, ...] = (), commands: str = "direct") -> Topology:
    own = (Exchange("commands", commands), Exchange("dead-letters", "direct"))  # type: ignore[arg-type]
    return Topology((*own, *exchanges), queues or (lane("default"),), default_queue="default")


PAYMENTS = shape(lane("payments", levels=3), lane("default", max_length=1000))


@pytest.mark.parametrize(
    ("version", "series"),
    [
        ("3.10.8", (3, 10)),
        ("3.12.1", (3, 10)),
        ("3.13.7", (3, 13)),
        ("4.0.2", (4, 0)),
        ("4.1.0-rc.1", (4, 0)),
        ("4.2.0", (4, 2)),
        ("4.3.6", (4, 3)),
        ("5.0", (4, 3)),
    ],
)
def test_version_takes_the_newest_row_that_is_not_newer(version: str, series: tuple[int, int]) -> None:
    assert Capabilities.for_version(version).series == series


@pytest.mark.parametrize("version", ["3.9.29", "2.8", "", "unknown", "4"])
def test_version_that_is_too_old_or_unreadable_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Capabilities.for_version(version)
    assert caught.value.hint


def test_table_is_in_order() -> None:
    assert [row.series for row in TABLE] == sorted(row.series for row in TABLE)


def test_priority_is_a_queue_per_level_before_4_3_and_the_brokers_own_from_then_on() -> None:
    queue = PAYMENTS.work_queue("payments")
    assert queue.names(OLD) == ["payments", "payments.p1", "payments.p2"]
    assert queue.names(NEW) == ["payments"]
    assert PAYMENTS.route("payments", 2, OLD) == Route("commands", "payments.p2", "payments.p2")
    assert PAYMENTS.route("payments", None, OLD) == Route("commands", "payments", "payments")
    assert PAYMENTS.route("payments", 2, NEW) == Route("commands", "payments", "payments", 2)
    assert PAYMENTS.route("payments", None, NEW) == Route("commands", "payments", "payments", 0)
    assert PAYMENTS.route("default", None, NEW).broker_priority == 0


@pytest.mark.parametrize("priority", [3, -1, True, "1", 1.0])
def test_priority_out_of_range_is_refused(priority: Any) -> None:
    with pytest.raises(ArgumentError, match="payments") as caught:
        PAYMENTS.route("payments", priority, OLD)
    assert "0 (lowest) to 2" in caught.value.hint


def test_unknown_queue_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UnknownQueue) as caught:
        PAYMENTS.route("paymets", None, OLD)
    assert "payments, default" in caught.value.hint


def test_every_route_leads_through_a_declared_binding_to_a_declared_queue() -> None:
    for capabilities in TABLE:
        physical = PAYMENTS.physical(capabilities)
        for queue in PAYMENTS.queues:
            for priority in range(queue.levels):
                route = PAYMENTS.route(queue.name, priority, capabilities)
                assert Binding(route.exchange, route.queue, route.routing_key) in physical.bindings
                assert route.queue in {found.name for found in physical.queues}


def test_work_queue_dead_letters_at_least_once_with_an_explicit_limit() -> None:
    (default,) = (queue for queue in PAYMENTS.physical(OLD).queues if queue.name == "default")
    assert default.durable
    assert default.arguments == {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "dead-letters",
        "x-dead-letter-routing-key": "default.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-delivery-limit": 100,
        "x-max-length": 1000,
    }


def test_dead_letter_queue_keeps_everything() -> None:
    for capabilities, arguments in (
        (OLD, {"x-queue-type": "quorum"}),
        (NEW, {"x-queue-type": "quorum", "x-delivery-limit": -1}),
    ):
        dead = [queue for queue in PAYMENTS.physical(capabilities).queues if queue.role == "dead-letter"]
        assert [queue.name for queue in dead] == ["payments.dead", "default.dead"]
        assert all(queue.arguments == arguments for queue in dead)


def test_dead_letter_side_is_declared_before_what_fills_it() -> None:
    assert [item.title for item in shape().physical(OLD).in_safe_order()] == [
        "commands",
        "dead-letters",
        "default.dead",
        "dead-letters -> default.dead (key default.dead)",
        "default",
        "commands -> default (key default)",
    ]


def test_unroutable_messages_of_other_exchanges_are_collected() -> None:
    events = Exchange("events", "topic", alternate=Alternate("unrouted", "unroutable"))
    declared = shape(exchanges=(events, Exchange("unrouted", "fanout")))
    assert declared.unroutable_queues() == ["unroutable"]
    assert declared.dead_letter_queues() == ["default.dead", "unroutable"]
    physical = declared.physical(OLD)
    assert physical.exchanges[0].name == "unrouted"
    assert Binding("unrouted", "unroutable", "") in physical.bindings


def test_owner_of_a_level_is_its_queue() -> None:
    owner = PAYMENTS.owner_of("payments.p2", OLD)
    assert owner is not None
    assert owner.name == "payments"
    assert PAYMENTS.owner_of("payments.p2", NEW) is None
    assert PAYMENTS.owner_of("payments.dead", OLD) is None


def test_digest_depends_on_the_shape_and_not_on_its_order() -> None:
    one = shape(lane("a", routing_keys=("x", "y")), lane("default"))
    other = shape(lane("default"), lane("a", routing_keys=("y", "x")))
    assert one.digest() == other.digest()
    assert one.digest() != shape(lane("a"), lane("default")).digest()
    assert one.digest() == "681e5c4d90047591ce59a24f5cdcbe6f863a59abef3c9f92fdbe963794ef4bf6"


REFUSED: dict[str, Callable[[], object]] = {
    "used 2 times": lambda: shape(lane("default"), lane("default")),
    "payments.p1 is used 2 times": lambda: shape(
        lane("payments", levels=2), lane("payments.p1"), lane("default")
    ),
    "exchange name commands is used": lambda: shape(exchanges=(Exchange("commands", "topic"),)),
    "name ''": lambda: Queue("", DeadLetter("d", "q")),
    "name 'a b'": lambda: Queue("a b", DeadLetter("d", "q")),
    "amq.direct": lambda: Exchange("amq.direct"),
    "'AMQ.x'": lambda: Queue("AMQ.x", DeadLetter("d", "q")),
    "type='stream'": lambda: Exchange("e", "stream"),  # type: ignore[arg-type]
    "uses the exchange nowhere": lambda: shape(lane("default", exchange="nowhere")),
    "dead-letter side of queue default uses": lambda: shape(
        lane("default", dead_letter=DeadLetter("nowhere", "d"))
    ),
    "silently turns at-least-once": lambda: lane("default", max_length=5, overflow="drop-head"),
    "max_length=0": lambda: lane("default", max_length=0),
    "delivery_limit=0": lambda: lane("default", delivery_limit=0),
    "delivery_limit=-1": lambda: lane("default", delivery_limit=-1),
    "levels=0": lambda: lane("default", levels=0),
    "levels=11": lambda: lane("default", levels=11),
    "levels=True": lambda: lane("default", levels=True),
    "has an alternate": lambda: Topology(
        (
            Exchange("commands", "direct", alternate=Alternate("unrouted", "unroutable")),
            Exchange("unrouted", "fanout"),
            Exchange("dead-letters", "direct"),
        ),
        (lane("default"),),
        "default",
    ),
    "is its own alternate": lambda: Exchange("e", alternate=Alternate("e", "q")),
    "alternate exchange unrouted is of type direct": lambda: shape(
        exchanges=(
            Exchange("events", alternate=Alternate("unrouted", "unroutable")),
            Exchange("unrouted", "direct"),
        )
    ),
    "leads to two queues": lambda: shape(
        exchanges=(
            Exchange("a", alternate=Alternate("unrouted", "one")),
            Exchange("b", alternate=Alternate("unrouted", "two")),
            Exchange("unrouted", "fanout"),
        )
    ),
    "which has another use": lambda: shape(
        exchanges=(
            Exchange("events", alternate=Alternate("unrouted", "default")),
            Exchange("unrouted", "fanout"),
        )
    ),
    "to the work queue default": lambda: shape(
        lane("default", dead_letter=DeadLetter("dead-letters", "default"))
    ),
    "to the work queue a.p1": lambda: shape(
        lane("a", levels=2), lane("default", dead_letter=DeadLetter("dead-letters", "a.p1"))
    ),
    "through commands, which carries": lambda: shape(
        lane("default", dead_letter=DeadLetter("commands", "default.dead"))
    ),
    "is a fanout": lambda: shape(commands="fanout"),
    "'other' is not declared": lambda: Topology(
        (Exchange("commands"), Exchange("dead-letters")), (lane("default"),), "other"
    ),
    "no queue": lambda: Topology((Exchange("commands"),), (), "default"),
    "among its queues": lambda: Topology((), ("default",), "default"),  # type: ignore[arg-type]
    "'p.#' of queue a also leads": lambda: shape(
        lane("a", routing_keys=("p.#",)), lane("p.x"), lane("default"), commands="topic"
    ),
    "'default' of queue a also leads": lambda: shape(lane("a", routing_keys=("default",)), lane("default")),
    "names a routing key twice": lambda: lane("a", routing_keys=("a",)),
    "has the routing key ''": lambda: lane("a", routing_keys=("",)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_mix_that_would_lose_or_repeat_is_refused_with_a_hint(message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        REFUSED[message]()
    assert message in caught.value.message
    assert caught.value.hint


def test_at_most_once_may_drop_its_oldest_when_that_is_said() -> None:
    dead = DeadLetter("dead-letters", "default.dead", strategy="at-most-once")
    assert shape(lane("default", max_length=5, overflow="drop-head", dead_letter=dead))


@pytest.mark.parametrize(("key", "other"), [("p.*", "p.x.y"), ("*.q", "p.x"), ("a.#.z", "a.b"), ("x", "x.y")])
def test_patterns_that_exclude_each_other_are_fine(key: str, other: str) -> None:
    assert shape(lane("one", routing_keys=(key,)), lane(other), lane("default"), commands="topic")


def test_the_deployment_of_this_repository_is_a_topology() -> None:
    found = load_topology("topology:TOPOLOGY")
    assert found.work_queue("payments").levels == 3
    assert found.default_queue == "default"
    assert found.dead_letter_queues() == ["payments.dead", "notifications.dead", "default.dead"]
