"""Deliveries whose rows the database refuses, though it is there: tried a few times, then dead with the error."""

import time

from celery.utils.log import get_logger

from reliable_tasks.errors import MessageRefused
from reliable_tasks.model.states import TaskState
from reliable_tasks.store import attempts
from reliable_tasks.store.engine import begin, is_outage, is_unstorable
from reliable_tasks.worker.call import Delivery, verify
from reliable_tasks.worker.outcome import Outcome, Settlement
from reliable_tasks.worker.recording import record
from reliable_tasks.worker.refusals import unreadable
from reliable_tasks.worker.rows import failure_columns, now, request_columns
from reliable_tasks.worker.runtime import Runtime

logger = get_logger("reliable_tasks.worker")

REFUSALS = 4
"""Of the rows of one attempt. Deliveries are not counted: most come again for a reason that is not the message's."""

PAUSE_SECONDS = 0.5
"""So that a message that cannot be recorded does not spin between broker and worker."""


def unrecorded(runtime: Runtime, delivery: Delivery, error: Exception) -> Settlement:
    """Send it back, since what is refused now may be taken later; the last time make it a dead letter.

    Raises:
        DatabaseUnreachable: when the database has gone away meanwhile; then nothing is counted.
    """
    logger.error("Task %s[%s] could not be recorded", delivery.task_name, delivery.task_id, exc_info=error)
    if _counted(runtime, delivery) < REFUSALS:
        time.sleep(PAUSE_SECONDS)
        return Settlement.REQUEUE
    try:
        verify(runtime, delivery)
        outcome = _unrecordable(delivery, error)
    except MessageRefused as reason:
        outcome = unreadable(delivery, reason)
    try:
        with begin(runtime.engine) as connection:
            record(connection, delivery, outcome, None)
    except Exception as again:
        if is_outage(again):
            raise
        logger.exception("Task %s[%s] cannot be dead either", delivery.task_name, delivery.task_id)
        time.sleep(PAUSE_SECONDS)
        # the collector keeps by its bytes what Postgres cannot hold
        return Settlement.REJECT if is_unstorable(again) else Settlement.REQUEUE
    return outcome.settlement


def _counted(runtime: Runtime, delivery: Delivery) -> int:
    """How often the rows of this attempt have been refused, this time included; 0 when not even that can be noted."""
    try:
        with begin(runtime.engine) as connection:
            attempts.suppress(connection, delivery.task_id, delivery.task_name, None, "unrecordable")
            return attempts.refused(connection, delivery.task_id)
    except Exception as error:
        if is_outage(error):
            raise
        logger.exception("The refusal of %s[%s] cannot be noted", delivery.task_name, delivery.task_id)
        return 0


def _unrecordable(delivery: Delivery, error: Exception) -> Outcome:
    return Outcome(
        Settlement.REJECT,
        state=TaskState.DEAD,
        values={
            **request_columns(delivery.request, delivery.queue, [], {}),
            **failure_columns(error),
            "reason": "unrecordable",
            "finished_at": now(),
        },
        dead_reason="unrecordable",
    )
