"""What holds for a queue that has both arguments and policies."""

import shlex

import pytest

from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.physical import ArgumentValue, PhysicalQueue
from reliable_tasks.model.policies import deliveries_before_the_end, in_effect, lifting_policy


@pytest.mark.parametrize(
    ("argument", "policy", "holds"),
    [
        ({}, {}, None),
        ({"x-delivery-limit": 20}, {}, 20),
        ({}, {"delivery-limit": -1}, -1),
        ({"x-delivery-limit": 20}, {"delivery-limit": -1}, 20),
        ({"x-delivery-limit": -1}, {"delivery-limit": 5}, 5),
        ({"x-delivery-limit": 9}, {"delivery-limit": 5}, 5),
        ({"x-delivery-limit": 0}, {"delivery-limit": 5}, 0),
    ],
)
def test_of_two_limits_the_lower_one_holds(
    argument: dict[str, ArgumentValue], policy: dict[str, ArgumentValue], holds: int | None
) -> None:
    assert in_effect("x-delivery-limit", PhysicalQueue("q", argument, policy=policy)) == holds


def test_of_anything_else_the_argument_holds() -> None:
    queue = PhysicalQueue("q", {"x-overflow": "reject-publish"}, policy={"overflow": "drop-head", "b": 1})
    assert in_effect("x-overflow", queue) == "reject-publish"
    assert in_effect("x-b", queue) == 1


@pytest.mark.parametrize(
    ("version", "arguments", "deliveries"),
    [
        ("3.10.8", {}, None),
        ("3.10.8", {"x-delivery-limit": -1}, 0),
        ("4.0.5", {}, 20),
        ("4.0.5", {"x-delivery-limit": -1}, None),
        ("4.3.6", {"x-delivery-limit": 7}, 7),
    ],
)
def test_how_often_a_message_is_delivered_depends_on_the_release(
    version: str, arguments: dict[str, ArgumentValue], deliveries: int | None
) -> None:
    found = deliveries_before_the_end(PhysicalQueue("q", arguments), Capabilities.for_version(version))
    assert found == deliveries


def test_the_policy_matches_these_queues_and_no_others() -> None:
    words = shlex.split(lifting_policy("my host", ["a.dead", "b-c"]))
    assert words[:4] == ["rabbitmqctl", "set_policy", "-p", "my host"]
    assert words[-2:] == [r"^(a\.dead|b-c)$", '{"delivery-limit":-1}']
