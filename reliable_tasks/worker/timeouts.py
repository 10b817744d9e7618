"""Tasks that a hard time limit has killed: recorded by the parent, since the process is gone."""

import os
import signal
from contextlib import suppress
from typing import Any

from celery.exceptions import TimeLimitExceeded
from celery.utils.log import get_logger

from reliable_tasks.errors import MessageRefused
from reliable_tasks.model.retry import Effects
from reliable_tasks.store.claims import Owned
from reliable_tasks.worker.call import Call, decode, delivery_of, verify
from reliable_tasks.worker.outcome import Outcome, Settlement
from reliable_tasks.worker.refusals import dead_before_its_end, unreadable
from reliable_tasks.worker.steps import steps_for

logger = get_logger("reliable_tasks.worker")


def timed_out(request: Any, timeout: float) -> Settlement:
    """Record that the limit ended the task; an external one comes again, and asks what became of its call."""
    logger.error("Hard time limit (%ss) exceeded for %s[%s]", timeout, request.name, request.id)
    task = request.task
    options = getattr(task, "reliable_options", None)
    if options is not None and options.effects is Effects.EXTERNAL:
        return Settlement.REQUEUE
    delivery = delivery_of(task.app, *request.pool_arguments())
    _kill(request.worker_pid)
    try:
        with steps_for(task.app.runtime, task) as steps:
            try:
                verify(task.app.runtime, delivery)  # the limit may have come before the pool's process did
                call = decode(delivery, task)
            except MessageRefused as reason:
                outcome = unreadable(delivery, reason)
            else:
                verdict = steps.claim(call)
                if not isinstance(verdict, Owned):
                    return Settlement.REQUEUE
                outcome = _outcome(call, verdict, TimeLimitExceeded(timeout))
            steps.record(delivery, outcome)
    except Exception:
        # not recorded: the broker keeps the message, and the next delivery tries again
        logger.exception("The time limit of %s[%s] could not be recorded", request.name, request.id)
        return Settlement.REQUEUE
    return outcome.settlement


def _kill(pid: int | None) -> None:
    """End the process now: the pool would do so only after us, and it still holds the claim's row."""
    if pid and pid != os.getpid():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _outcome(call: Call, owned: Owned, failure: BaseException) -> Outcome:
    delivery = call.delivery
    outcome = dead_before_its_end(call, failure, "time_limit")
    outcome.claim_state = outcome.state.value if outcome.state else None
    outcome.values["attempt"] = owned.attempt
    outcome.attempt = {
        "task_id": call.task_id,
        "name": delivery.task_name,
        "idempotency_key": call.key,
        "attempt": owned.attempt,
        "replay": call.replay,
        "fence": owned.fence,
        "state": "timed_out",
        "next_step": outcome.claim_state,
        "exception_type": type(failure).__name__,
        "exception_message": str(failure),
        "worker": delivery.request.get("hostname"),
    }
    return outcome
