"""Tasks that a hard time limit has killed: recorded by the parent, since the process is gone."""

from typing import Any

from celery.exceptions import TimeLimitExceeded
from celery.utils.log import get_logger

from reliable_tasks.errors import Undecodable
from reliable_tasks.model.retry import Effects
from reliable_tasks.model.states import TaskState
from reliable_tasks.store.claims import Owned
from reliable_tasks.worker.call import Delivery, decode
from reliable_tasks.worker.outcome import Outcome, Settlement
from reliable_tasks.worker.rows import failure_columns, now, request_columns
from reliable_tasks.worker.steps import ShortTransactions

logger = get_logger("reliable_tasks.worker")


def timed_out(request: Any, timeout: float) -> Settlement:
    """Record that the limit ended the task; an external one comes again, and asks what became of its call."""
    logger.error("Hard time limit (%ss) exceeded for %s[%s]", timeout, request.name, request.id)
    task = request.task
    options = getattr(task, "reliable_options", None)
    if options is not None and options.effects is Effects.EXTERNAL:
        return Settlement.REQUEUE
    name, task_id, fields, body, content_type, encoding, headers, priority = request.pool_arguments()
    queue, level = task.app.queue_and_level((fields.get("delivery_info") or {}).get("routing_key", ""))
    fields["rt_priority"] = level if level is not None else priority
    delivery = Delivery(name, task_id, fields, body, content_type, encoding, headers, queue)
    failure = TimeLimitExceeded(timeout)
    try:
        call = decode(delivery, task)
        steps = ShortTransactions(task.app.runtime)
        verdict = steps.claim(call)
        if not isinstance(verdict, Owned):
            return Settlement.REQUEUE
        outcome = Outcome(
            Settlement.REJECT,
            state=TaskState.DEAD,
            claim_state=TaskState.DEAD.value,
            dead_reason="time_limit",
            values={
                **request_columns(fields, queue, call.args, call.kwargs),
                **failure_columns(failure),
                "idempotency_key": call.key,
                "attempt": verdict.attempt,
                "reason": "time_limit",
                "finished_at": now(),
            },
            attempt={
                "task_id": task_id,
                "name": name,
                "idempotency_key": call.key,
                "attempt": verdict.attempt,
                "replay": call.replay,
                "state": "timed_out",
                "next_step": "dead",
                "exception_type": type(failure).__name__,
                "exception_message": str(failure),
                "worker": fields.get("hostname"),
            },
        )
        task.backend.mark_as_failure(
            task_id, failure, request=request._context, store_result=False
        )  # errbacks, chain and chord hear of it
        steps.record(delivery, outcome)
    except Undecodable:
        return Settlement.REQUEUE
    except Exception:
        # not recorded: the broker keeps the message, and the next delivery tries again
        logger.exception("The time limit of %s[%s] could not be recorded", request.name, request.id)
        return Settlement.REQUEUE
    return Settlement.REJECT
