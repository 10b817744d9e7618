"""How an execution has ended: the next states of task and claim, the settlement, and the rows that say so."""

from typing import Any

from reliable_tasks.errors import PermanentError, TransientError
from reliable_tasks.model.retry import DeadLetter, Effects, Park
from reliable_tasks.model.states import TaskState
from reliable_tasks.worker.call import Call
from reliable_tasks.worker.outcome import Outcome, Settlement
from reliable_tasks.worker.rows import NO_FAILURE, failure_columns, now, request_columns, result_columns


def classify(outcome: Outcome, call: Call, execution: Any, info: Any) -> None:
    """The task's and the claim's next state, and the settlement, from how the tracer ended."""
    state = "SUCCESS" if info is None else info.state
    decision = execution.unit.decision
    dead_letter = call.options.dead_letter if call.options else getattr(call.task, "dead_letter", True)
    if state == "SUCCESS":
        outcome.state = TaskState.SUCCEEDED
    elif state == "RETRY":
        outcome.state = TaskState.RETRY_WAIT
        outcome.may_have_acted = _may_have_acted(call, execution)
    elif state == "IGNORED":
        outcome.state = ignored(call, execution)
        failed = outcome.state is TaskState.FAILED
        outcome.claim_state = (TaskState.FAILED if failed else TaskState.SUCCEEDED).value
        return
    elif state == "REJECTED" and getattr(info.retval, "requeue", False):
        outcome.settlement, outcome.claim_state = Settlement.REQUEUE, TaskState.RETRY_WAIT.value
        outcome.state = TaskState.RETRY_WAIT
        outcome.may_have_acted = _may_have_acted(call, execution)
        return
    elif isinstance(decision, Park):
        outcome.state, outcome.dead_reason = TaskState.UNCERTAIN, "uncertain"
        outcome.settlement, outcome.may_have_acted = Settlement.REJECT, True
    elif dead_letter:
        outcome.state, outcome.settlement = TaskState.DEAD, Settlement.REJECT
        outcome.dead_reason = _reason(state, decision)
        outcome.may_have_acted = _may_have_acted(call, execution)
    else:
        outcome.state = TaskState.FAILED
        outcome.values["reason"] = _reason(state, decision)
    outcome.claim_state = outcome.state.value


def ignored(call: Call, execution: Any) -> TaskState:
    """The end of a task that raised Ignore: what it has stored itself, unless `replace` goes on under its id."""
    if any(message.task_id == call.task_id for message in execution.unit.messages):
        return TaskState.RETRY_WAIT
    stored = execution.unit.result_of(call.task_id)
    failed = stored is not None and stored.celery_state == "FAILURE"
    return TaskState.FAILED if failed else TaskState.SUCCEEDED


def _reason(state: str, decision: Any) -> str:
    if state == "REJECTED":
        return "rejected"
    return decision.reason if isinstance(decision, DeadLetter) else "permanent"


def _may_have_acted(call: Call, execution: Any) -> bool:
    """Whether the next attempt, a replay included, must ask first: no failure has said that nothing happened."""
    external = call.options is not None and call.options.effects is Effects.EXTERNAL
    says_nothing_happened = isinstance(execution.unit.failure, (TransientError, PermanentError))
    return external and (execution.doubt or not says_nothing_happened)


def fill(outcome: Outcome, call: Call, execution: Any, started_at: Any) -> None:
    """The columns of the result and of the attempt."""
    finished_at = max(now(), started_at)
    stored = execution.unit.result_of(call.task_id)
    ended: dict[str, Any] = dict(stored.values) if stored else {}
    if execution.unit.failure is not None:
        ended = {
            **failure_columns(execution.unit.failure),
            **{k: v for k, v in ended.items() if v is not None},
        }
    elif stored is not None and "result" not in ended:
        ended = {**result_columns(stored.raw, stored.celery_state, None), **ended}
    outcome.values = {
        **outcome.values,
        **request_columns(call.delivery.request, call.delivery.queue, call.args, call.kwargs),
        **NO_FAILURE,
        **ended,
        "idempotency_key": call.key,
        "attempt": execution.owned.attempt,
        "started_at": started_at,
        "finished_at": None if outcome.state is TaskState.RETRY_WAIT else finished_at,
        "reason": outcome.dead_reason or outcome.values.get("reason"),
        "celery_state": None,
    }
    outcome.attempt = {
        "task_id": call.task_id,
        "name": call.task.name,
        "idempotency_key": call.key,
        "attempt": execution.owned.attempt,
        "replay": call.replay,
        "fence": execution.owned.fence,
        "state": outcome.claim_state if outcome.claim_state in ("succeeded", "uncertain") else "failed",
        "next_step": outcome.state.value if outcome.state else None,
        "exception_type": ended.get("exception_type"),
        "exception_message": ended.get("exception_message"),
        "traceback": ended.get("traceback"),
        "worker": call.delivery.request.get("hostname"),
        "started_at": started_at,
        "finished_at": finished_at,
    }
