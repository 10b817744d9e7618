"""From delivery to settlement, in the pool process: the order of the steps is what keeps the guarantees."""

from typing import Any

from reliable_tasks import failpoints
from reliable_tasks.errors import MessageRefused
from reliable_tasks.store.verdicts import Owned
from reliable_tasks.worker.call import Delivery, decode, verify
from reliable_tasks.worker.execution import execute
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.refusals import refuse, unreadable
from reliable_tasks.worker.runtime import Runtime
from reliable_tasks.worker.steps import steps_for
from reliable_tasks.worker.task import ReliableTask


def process(runtime: Runtime, task: ReliableTask, delivery: Delivery, ahead: Any = None) -> Settlement:
    """Take one delivery from its bytes to the answer that the broker may be given.

    Nothing is executed before the claim is taken, nothing is settled before the rows are committed: in the other
    order a crash between the two would run a task twice, or lose it. The one exception is an execution `ahead` of its
    claim, of a task without effects (`worker.ahead`): it counts only when the claim turns out to be its own.
    """
    with steps_for(runtime, task) as steps:
        try:
            verify(runtime, delivery)
            call = decode(delivery, task)
        except MessageRefused as reason:
            outcome = unreadable(delivery, reason)
        else:
            verdict = steps.claim(call)
            if not isinstance(verdict, Owned):
                outcome = refuse(steps, call, verdict)
            elif ahead is not None and ahead.fits(verdict):
                outcome = ahead.outcome
            else:
                outcome = execute(steps, call, verdict)
            outcome.app, outcome.chord = task.app, call.embed.get("chord")
        steps.record(delivery, outcome)
    if failpoints.ACTIVE:
        failpoints.reach("worker.after_commit_before_ack")
    return outcome.settlement  # the parent acks or rejects: `worker.request`
