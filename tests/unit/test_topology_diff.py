"""Declared against live, as values: what would be created, what is refused, what is left alone."""

from dataclasses import replace
from typing import Any

import pytest

from reliable_tasks.broker.management import Depth
from reliable_tasks.errors import TopologyDrift
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.physical import Binding, Physical, PhysicalExchange, PhysicalQueue
from reliable_tasks.model.shape import DeadLetter, Exchange, Queue, Topology
from reliable_tasks.operate.topology import Difference, apply, diff

DECLARED = Topology(
    (Exchange("commands", "direct"), Exchange("dead-letters", "direct")),
    (Queue("default", DeadLetter("dead-letters", "default.dead")),),
    "default",
).physical(Capabilities.for_version("3.10.8"))

UNREACHABLE = "amqp://nobody:nothing@127.0.0.1:1/none"


def with_queue(name: str, **arguments: Any) -> Physical:
    """The declared shape with other arguments on one queue; None takes one away."""
    queues = []
    for queue in DECLARED.queues:
        if queue.name == name:
            changed = {
                key: value for key, value in {**queue.arguments, **arguments}.items() if value is not None
            }
            queue = replace(queue, arguments=changed)
        queues.append(queue)
    return replace(DECLARED, queues=tuple(queues))


def no_record(row: dict[str, Any]) -> None:
    pytest.fail(f"recorded {row}")


def test_empty_broker_gets_everything_in_safe_order() -> None:
    plan = diff(DECLARED, Physical())
    assert plan.differs
    assert [step.item for step in plan.having("create")] == list(DECLARED.in_safe_order())


def test_what_is_as_declared_needs_nothing() -> None:
    plan = diff(DECLARED, DECLARED)
    assert not plan.differs
    assert {step.action for step in plan.steps} == {"same"}
    assert apply(plan, UNREACHABLE, record=no_record) == ()


def test_missing_binding_is_created_alone() -> None:
    plan = diff(DECLARED, replace(DECLARED, bindings=DECLARED.bindings[:1]))
    assert [step.name for step in plan.having("create")] == ["commands -> default (key default)"]


@pytest.mark.parametrize(
    ("argument", "live", "declared"),
    [
        ("x-delivery-limit", 5, 100),
        ("x-dead-letter-strategy", None, "at-least-once"),
        ("x-max-length", 10, "(absent)"),
        ("x-queue-type", "classic", "quorum"),
    ],
)
def test_other_argument_is_named_with_both_values(argument: str, live: Any, declared: Any) -> None:
    plan = diff(DECLARED, with_queue("default", **{argument: live}))
    (step,) = plan.having("differs")
    assert step.differences == (Difference(argument, declared, "(absent)" if live is None else live),)
    assert "needs a migration" in step.detail


def test_other_exchange_type_differs() -> None:
    live = replace(DECLARED, exchanges=(PhysicalExchange("commands", "topic"), *DECLARED.exchanges[1:]))
    (step,) = diff(DECLARED, live).having("differs")
    assert step.differences == (Difference("type", "direct", "topic"),)


def test_difference_stops_apply_before_anything_is_done() -> None:
    live = replace(with_queue("default", **{"x-delivery-limit": 5}), bindings=())
    with pytest.raises(TopologyDrift, match="x-delivery-limit is 5, declared 100") as caught:
        apply(diff(DECLARED, live), UNREACHABLE, record=no_record)
    assert "nothing was changed" in caught.value.message


def test_what_is_not_declared_is_listed_and_left_alone() -> None:
    live = replace(
        DECLARED,
        exchanges=(*DECLARED.exchanges, PhysicalExchange("theirs", "topic")),
        queues=(*DECLARED.queues, PhysicalQueue("payments.p1", {"x-queue-type": "quorum"})),
        bindings=(*DECLARED.bindings, Binding("theirs", "payments.p1", "#")),
    )
    plan = diff(DECLARED, live, {"payments.p1": Depth("payments.p1", 7, 7, 0, 0)})
    assert not plan.differs
    assert [(step.kind, step.name) for step in plan.having("extra")] == [
        ("exchange", "theirs"),
        ("queue", "payments.p1"),
        ("binding", "theirs -> payments.p1 (key #)"),
    ]
    assert "holds 7 messages" in plan.having("extra")[1].detail
    assert apply(plan, UNREACHABLE, record=no_record) == ()


def test_nothing_is_done_when_it_cannot_be_recorded() -> None:
    def broken(row: dict[str, Any]) -> None:
        raise OSError("the database is away")

    with pytest.raises(OSError, match="away"):
        apply(diff(DECLARED, Physical()), UNREACHABLE, record=broken)
