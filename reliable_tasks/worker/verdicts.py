"""Why a delivery may not run, beyond what its key's claim says."""

from datetime import datetime

from reliable_tasks.errors import ResultDeleted
from reliable_tasks.model.retry import Effects
from reliable_tasks.store.verdicts import Owned
from reliable_tasks.worker.call import Call


class NotYet:
    """The message is not due; whoever sent it did not use our outbox."""

    def __init__(self, until: datetime) -> None:
        self.until = until


class Withdrawn:
    """The task has ended before it began: cancelled, expired, or it is a redelivery of a recorded end."""


class Expired:
    """The sender's time is over, and nothing has been done yet."""


class Poison:
    """Executions of this key have died with their workers too often."""

    def __init__(self, owned: Owned) -> None:
        self.owned = owned


def result_deleted(call: Call, first: str) -> ResultDeleted:
    """What a duplicate is told instead of an empty result."""
    return ResultDeleted(
        f"the key {call.key} was done by task {first}, and its result is deleted: this one cannot be given it",
        hint="the effect has happened once; discard this one",
    )


def worthless(call: Call, moment: datetime) -> bool:
    """Whether it has expired; a task that an operator replays, or that may have called something, has not."""
    if call.expires_at is None or call.expires_at > moment or call.replay:
        return False
    external = call.options is not None and call.options.effects is Effects.EXTERNAL
    return not (external and (call.delivery.redelivered or attempt_of(call) > 1))


def attempt_of(call: Call) -> int:
    """Number of the execution, by the message's own count of retries."""
    return int(call.delivery.request.get("retries") or 0) + 1
