"""Tasks that a hard time limit has killed: recorded by another pool process, since theirs is gone."""

import os
import signal
import time
from contextlib import suppress
from typing import Any

from celery.exceptions import TimeLimitExceeded
from celery.utils.log import get_logger

from reliable_tasks.errors import MessageRefused
from reliable_tasks.store.verdicts import Owned
from reliable_tasks.worker.call import Call, Delivery, decode, delivery_of, verify
from reliable_tasks.worker.outcome import Outcome, Settlement
from reliable_tasks.worker.refusals import dead_before_its_end, unreadable
from reliable_tasks.worker.running import running_app
from reliable_tasks.worker.steps import steps_for

logger = get_logger("reliable_tasks.worker")


def record_timeout(timeout: float, task_name: str, *arguments: Any) -> tuple[int, str, float]:
    """Record that the limit ended the task; called with its limit, and what `worker.trace.trace` was called with.

    In a pool process: the parent would wait for Postgres with all its other tasks.
    """
    app = running_app()
    started = time.monotonic()
    task, delivery = app.tasks[task_name], delivery_of(app, task_name, *arguments)
    try:
        settlement = _recorded(app, task, delivery, timeout)
    except Exception:
        # not recorded: the broker keeps the message, and the next delivery tries again
        logger.exception("The time limit of %s[%s] could not be recorded", task_name, delivery.task_id)
        settlement = Settlement.REQUEUE
    return 0, settlement.value, time.monotonic() - started


def _recorded(app: Any, task: Any, delivery: Delivery, timeout: float) -> Settlement:
    with steps_for(app.runtime, task) as steps:
        try:
            verify(app.runtime, delivery)  # the limit may have come before the pool's process did
            call = decode(delivery, task)
        except MessageRefused as reason:
            outcome = unreadable(delivery, reason)
        else:
            verdict = steps.claim(call)
            if not isinstance(verdict, Owned):
                return Settlement.REQUEUE
            outcome = _outcome(call, verdict, TimeLimitExceeded(timeout))
        steps.record(delivery, outcome)
    return outcome.settlement


def end_process(pid: int | None) -> None:
    """End the process now: the pool would do so only later, and it still holds the claim's row."""
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
