"""Queues that an older broker has declared, after its upgrade: what would be lost is said, and how it is mended."""

import json
import shlex
from typing import Any

import pytest

from reliable_tasks.broker.declarer import declare
from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.errors import TopologyDrift
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.operate import topology as operate
from tests.integration.applied_topology import TOPOLOGY, take
from tests.programs import Done, reliable_tasks
from tests.waiting import wait_until

BEFORE = Capabilities.for_version("3.10.8")
after_an_upgrade = pytest.mark.broker(delivery_limit_can_be_off=True)


@pytest.fixture
def declared_before(fresh_vhost: str) -> None:
    """The topology as RabbitMQ 3.10 has it."""
    declare(fresh_vhost, TOPOLOGY.physical(BEFORE).in_safe_order())


def said_by(*words: str, stack: Stack, url: str) -> Done:
    names = {"RELIABLE_TASKS_BROKER_URL": url, "RELIABLE_TASKS_MANAGEMENT_URL": stack.management_url}
    return reliable_tasks(*words, **names)


def limits(stack: Stack, url: str) -> dict[str, Any]:
    """What doctor says of the delivery limits of dead-letter queues."""
    done = said_by("doctor", "--output", "json", stack=stack, url=url)
    return next(each for each in json.loads(done.stdout)["checks"] if each["name"] == "dead-letter limits")


@after_an_upgrade
@pytest.mark.usefixtures("declared_before")
def test_a_dead_letter_queue_from_before_the_upgrade_gets_its_limit_lifted_as_plan_and_doctor_say(
    reliable_stack: Stack, fresh_vhost: str, management: Management, channel: Any
) -> None:
    found = operate.plan(TOPOLOGY, management)
    assert {step.name for step in found.having("differs")} == set(TOPOLOGY.dead_letter_queues())
    assert all("a policy changes it in place" in step.detail for step in found.having("differs"))
    with pytest.raises(TopologyDrift) as refused:
        operate.apply(found, fresh_vhost, record=lambda row: None)
    assert refused.value.hint == found.hint
    assert found.hint in said_by("topology", "plan", stack=reliable_stack, url=fresh_vhost).stderr
    doctor = limits(reliable_stack, fresh_vhost)
    assert (doctor["verdict"], doctor["hint"]) == ("lost", found.hint)
    assert "payments.dead after 20" in doctor["evidence"]

    program, *words = shlex.split(found.hint.partition("by: ")[2])
    assert program == "rabbitmqctl"
    reliable_stack.broker.rabbitmqctl(*words)
    # the broker tells its policies when it counts, every five seconds
    wait_until(lambda: not operate.plan(TOPOLOGY, management).differs, "the policy to be told", 30)
    assert limits(reliable_stack, fresh_vhost)["verdict"] == "kept"
    assert operate.apply(operate.plan(TOPOLOGY, management), fresh_vhost, record=lambda row: None) == ()
    channel.basic_publish("", "payments.dead", b"kept")
    for _ in range(30):
        channel.basic_reject(take(channel, "payments.dead")[0].delivery_tag, requeue=True)
    assert take(channel, "payments.dead")[2] == b"kept"


@after_an_upgrade
@pytest.mark.usefixtures("declared_before")
def test_without_the_policy_a_dead_letter_is_gone_after_twenty_one_deliveries(
    capabilities: Capabilities, channel: Any
) -> None:
    channel.basic_publish("", "payments.dead", b"lost")
    for _ in range((capabilities.default_delivery_limit or 0) + 1):
        channel.basic_reject(take(channel, "payments.dead")[0].delivery_tag, requeue=True)
    channel.basic_publish("", "payments.dead", b"next")
    assert take(channel, "payments.dead")[2] == b"next"


@pytest.mark.usefixtures("applied_shape")
def test_a_policy_that_limits_what_keeps_dead_letters_is_named(
    reliable_stack: Stack, fresh_vhost: str
) -> None:
    assert limits(reliable_stack, fresh_vhost)["verdict"] == "kept"
    vhost = Management(reliable_stack.management_url, fresh_vhost).vhost
    reliable_stack.broker.rabbitmqctl(
        "set_policy", "-p", vhost, "--apply-to", "queues", "few", "^payments.dead$", '{"delivery-limit":5}'
    )
    wait_until(lambda: limits(reliable_stack, fresh_vhost)["verdict"] == "lost", "the policy to be told", 30)
    assert limits(reliable_stack, fresh_vhost)["evidence"].endswith("payments.dead after 5")
