"""Deliveries that run nothing, and why: duplicates, busy keys, conflicts, closed keys, unreadable messages."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from celery.app.task import Context
from celery.exceptions import TaskRevokedError

from reliable_tasks.errors import (
    BadSignature,
    ExecutionError,
    KeyConflict,
    KeyForgotten,
    MessageRefused,
    Unsigned,
)
from reliable_tasks.model.states import WAITING, TaskState
from reliable_tasks.store import results
from reliable_tasks.store.engine import database_now
from reliable_tasks.store.verdicts import BeyondRetention, Busy, Closed, Conflict, Done
from reliable_tasks.worker.call import Call, Delivery
from reliable_tasks.worker.execution import execute_stored
from reliable_tasks.worker.outcome import Outcome, Settlement
from reliable_tasks.worker.rows import failure_columns, now, request_columns
from reliable_tasks.worker.steps import ShortTransactions
from reliable_tasks.worker.unit import current_unit
from reliable_tasks.worker.verdicts import Expired, NotYet, Poison, Withdrawn, result_deleted

_AFTER_LEASE = timedelta(milliseconds=200)
_UNTIL_REPLACED = timedelta(seconds=2)


def refuse(steps: ShortTransactions, call: Call, verdict: Any) -> Outcome:
    """The outcome of a delivery whose claim was not given."""
    match verdict:
        case Done(task_id=first):
            return _duplicate(steps, call, first)
        case Busy(until=until):
            return _later(steps, call, until + _AFTER_LEASE, suppressed="busy")
        case NotYet(until=until):
            return _later(steps, call, until)
        case Withdrawn():
            return Outcome(suppressed="redelivered")
        case Expired():
            return _expired(call)
        case Closed(state=state, task_id=first) if first == call.task_id:
            # its rows are there; the broker has not got our answer the first time
            answer = Settlement.ACK if state == TaskState.FAILED else Settlement.REJECT
            return Outcome(answer, suppressed="redelivered")
        case Poison(owned=owned):
            error = ExecutionError(
                f"executions of {f'the key {call.key}' if call.key else 'this task'} "
                "died with their worker too often",
                hint="run it apart, find what kills the process, then replay it",
            )
            outcome = _dead(call, error, "poison")
            outcome.claim_state = (outcome.state or TaskState.DEAD).value
            outcome.may_have_acted = owned.may_have_acted
            return outcome
    return _dead_by(call, verdict)


def _dead_by(call: Call, verdict: Any) -> Outcome:
    """The outcome of a delivery that will never have its key."""
    match verdict:
        case Conflict(task_id=first):
            error: ExecutionError = KeyConflict(
                f"the key {call.key} belongs to another payload, first sent as task {first}",
                hint="the sender reused a key: compare both payloads, then discard this one or correct its key",
            )
            return _dead(call, error, "conflict", suppressed="conflict")
        case BeyondRetention(sent_at=sent_at, watermark=watermark):
            error = KeyForgotten(
                f"it was sent at {sent_at:%Y-%m-%d %H:%M} UTC, and keys from before {watermark:%Y-%m-%d %H:%M} UTC "
                f"are not kept: whether {call.key} was done cannot be told",
                hint="find out from the effects themselves, then discard this one, and send a new one if it was not",
            )
            return _dead(call, error, "beyond_retention")
        case Closed(state=state, task_id=first):
            error = ExecutionError(
                f"the key {call.key} is {state} by task {first}",
                hint=f"settle task {first} first, then replay this",
            )
            return _dead(call, error, f"key_{state}", suppressed="duplicate")
    raise AssertionError(f"no refusal for {verdict!r}")


def unreadable(delivery: Delivery, reason: MessageRefused) -> Outcome:
    """The outcome of a message that cannot be a call of its task, or that nobody of ours has sent."""
    if isinstance(reason, (Unsigned, BadSignature)):
        return Outcome(
            Settlement.REJECT, values=failure_columns(reason), dead_reason=reason.reason, unverified=True
        )
    return Outcome(
        Settlement.REJECT,
        state=TaskState.DEAD,
        values={
            **request_columns(delivery.request, delivery.queue, [], {}),
            **failure_columns(reason),
            "reason": reason.reason,
            "finished_at": now(),
        },
        dead_reason=reason.reason,
    )


def _duplicate(steps: ShortTransactions, call: Call, first: str) -> Outcome:
    if first == call.task_id:
        return Outcome(suppressed="redelivered")
    with steps.connection() as connection:
        stored, moment = results.get(connection, first), database_now(connection)
    if stored is None:
        if call.task.ignore_result or call.delivery.request.get("ignore_result"):
            return execute_stored(call, first, None)
        return _dead(call, result_deleted(call, first), "result_deleted", suppressed="duplicate")
    state = TaskState(stored["state"])
    if state in WAITING:
        # another task goes on under its id, which it was replaced by
        return _later(steps, call, moment + _UNTIL_REPLACED, suppressed="busy")
    if state not in (TaskState.SUCCEEDED, TaskState.DUPLICATE):
        return _dead_by(call, Closed(state, first))
    return execute_stored(call, first, stored)


def _later(steps: ShortTransactions, call: Call, until: Any, suppressed: str | None = None) -> Outcome:
    outcome = Outcome(suppressed=suppressed)
    again = replace(call.delivery.message(), due_at=until)
    outcome.unit.messages.append(steps.runtime.signer.sign_again(again, now()))
    return outcome


def _expired(call: Call) -> Outcome:
    values = {
        **request_columns(call.delivery.request, call.delivery.queue, call.args, call.kwargs),
        **failure_columns(TaskRevokedError("expired")),
        "idempotency_key": call.key,
        "reason": "expired",
        "traceback": None,
        "finished_at": now(),
    }
    return Outcome(state=TaskState.EXPIRED, values=values)


def _dead(call: Call, error: ExecutionError, reason: str, suppressed: str | None = None) -> Outcome:
    outcome = dead_before_its_end(call, error, reason)
    outcome.suppressed = suppressed
    return outcome


def dead_before_its_end(call: Call, error: BaseException, reason: str) -> Outcome:
    """The outcome of a call that Celery's tracer has not ended: its errbacks and chain are told here."""
    dead_letter = call.options.dead_letter if call.options else getattr(call.task, "dead_letter", True)
    outcome = Outcome(
        Settlement.REJECT if dead_letter else Settlement.ACK,
        state=TaskState.DEAD if dead_letter else TaskState.FAILED,
        values={
            **request_columns(call.delivery.request, call.delivery.queue, call.args, call.kwargs),
            **failure_columns(error),
            "idempotency_key": call.key,
            "reason": reason,
            "finished_at": now(),
        },
        dead_reason=reason if dead_letter else None,
    )
    request = Context(
        {**call.delivery.request, **call.embed}, args=call.args, kwargs=call.kwargs, called_directly=False
    )
    token = current_unit.set(outcome.unit)
    try:
        call.task.backend.mark_as_failure(call.task_id, error, request=request, store_result=True)
    finally:
        current_unit.reset(token)
    return outcome
