"""What a broker's policies do to a queue that was declared with arguments, and the one that lifts a delivery limit."""

import re
from collections.abc import Iterable

from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.physical import ArgumentValue, PhysicalQueue

DELIVERY_LIMIT = "x-delivery-limit"
WITHOUT_END = -1
_LOWEST_WINS = (DELIVERY_LIMIT, "x-max-length", "x-max-length-bytes")
POLICY = "reliable-tasks-keep-dead-letters"


def in_effect(name: str, queue: PhysicalQueue) -> ArgumentValue | None:
    """What holds for a live queue: its argument, else its policy; of two limits the lower one.

    Of delivery limits that was measured on 3.10.8, 4.0.5 and 4.3.6; of lengths it is so by RabbitMQ's documentation
    (https://www.rabbitmq.com/docs/maxlength).
    """
    argument = queue.arguments.get(name)
    policy = queue.policy.get(name.removeprefix("x-"))
    if argument is None or policy is None:
        return policy if argument is None else argument
    if name in _LOWEST_WINS:
        limits = [value for value in (argument, policy) if isinstance(value, int) and value >= 0]
        return min(limits) if limits else argument
    return argument


def deliveries_before_the_end(queue: PhysicalQueue, capabilities: Capabilities) -> int | None:
    """How often a live queue delivers a message before it gives it up; None is without end."""
    limit = in_effect(DELIVERY_LIMIT, queue)
    if limit is None:
        return capabilities.default_delivery_limit
    if isinstance(limit, int) and limit < 0 and capabilities.delivery_limit_can_be_off:
        return None
    return max(int(limit), 0)


def lifting_policy(vhost: str, names: Iterable[str]) -> str:
    """The command that takes the delivery limit from queues that were declared without one."""
    pattern = "|".join(re.escape(name).replace("\\-", "-") for name in names)
    return (
        f"rabbitmqctl set_policy -p '{vhost}' --apply-to queues --priority 10 {POLICY} "
        f"'^({pattern})$' '{{\"delivery-limit\":{WITHOUT_END}}}'"
    )


def explained(vhost: str, names: Iterable[str]) -> str:
    """Why queues that were there before the broker's upgrade need that policy, in one hint."""
    return (
        "dead-letter queues that an older broker has declared get the newer one's limit, and a dead letter that was "
        f"delivered that often and never settled is gone; it is lifted in place by: {lifting_policy(vhost, names)}"
    )
