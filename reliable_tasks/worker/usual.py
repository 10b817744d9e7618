"""Which deliveries may be executed together and recorded in one commit: those that have nothing unusual about them."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from reliable_tasks.model.envelope import REPLAY
from reliable_tasks.model.retry import Effects
from reliable_tasks.model.signing import sent_at
from reliable_tasks.store import key_retention
from reliable_tasks.store.clock import record_time

_YOUNG = key_retention.SHORTEST - timedelta(minutes=10)
"""What is younger than this cannot have a key that is forgotten, also when clocks differ by minutes."""

_ABSENT = (
    "eta",
    "expires",
    "retries",
    "stamped_headers",
    "replaced_task_nesting",
    "x-death",
    "compression",
)


def can_be_usual(task: Any) -> bool:
    """Whether the first execution of this task may be given up to begin anew: nothing that it does stays uncommitted.

    Not where the death of a process that has it in hand, beside another that kills, would already end it.
    """
    options = getattr(task, "reliable_options", None)
    return (
        options is not None
        and options.effects is not Effects.EXTERNAL
        and options.max_crashes > 0
        and task.time_limit is None
        and task.soft_time_limit is None
        and task.rate_limit is None
    )


def is_usual(headers: Mapping[str, Any], delivery_info: Mapping[str, Any]) -> bool:
    """Whether this is a first delivery of a task that is due, waits for nobody and was sent a short while ago."""
    try:
        if delivery_info.get("redelivered") or any(headers.get("timelimit") or ()) or headers.get(REPLAY):
            return False
    except (TypeError, ValueError):
        return False  # not what Celery sends
    for name in _ABSENT:
        if headers.get(name):
            return False
    sent = sent_at(headers)
    return sent is None or sent > record_time() - _YOUNG
