"""Run an idempotent task in this process: `task(...)`, `task.apply()` and eager mode still claim and record."""

from typing import Any

from reliable_tasks.errors import ExecutionError, PermanentError, TransientError
from reliable_tasks.model.states import TaskState
from reliable_tasks.store import results
from reliable_tasks.store.identity import new_id
from reliable_tasks.store.verdicts import Done, Owned
from reliable_tasks.worker.arguments import fingerprint
from reliable_tasks.worker.call import Call, Delivery
from reliable_tasks.worker.execution import Execution
from reliable_tasks.worker.outcome import Outcome
from reliable_tasks.worker.rows import encoded, failure_columns, now, request_columns
from reliable_tasks.worker.steps import ShortTransactions, steps_for
from reliable_tasks.worker.unit import current_unit
from reliable_tasks.worker.verdicts import result_deleted


def run_inline(task: Any, args: Any, kwargs: Any) -> Any:
    """Claim, run the function once without retries, record; a key that is done gives its stored result.

    Raises:
        Whatever the function raises. A database effect is undone then, and nothing is recorded; of a call to
        something outside it is recorded that it failed, and whether it may have happened.
        ResultDeleted: when the key is done and its result is not kept any more.
        ExecutionError: when the key is busy, in conflict, or ended otherwise.
    """
    call = _call(task, args, kwargs)
    with steps_for(task.app.runtime, task) as steps:
        verdict = steps.claim(call)
        if isinstance(verdict, Done):
            with steps.connection() as connection:
                stored = results.get(connection, verdict.task_id)
            if stored is None:
                raise result_deleted(call, verdict.task_id)
            return task.backend.decode(bytes(stored["result"])) if stored["result"] else None
        if not isinstance(verdict, Owned):
            raise ExecutionError(f"the key {call.key} cannot be run now: {verdict}")
        execution = Execution(call, verdict, steps)
        value = _run(execution, task, args, kwargs)
    for send in execution.unit.after_commit:
        send()
    return value


def _call(task: Any, args: Any, kwargs: Any) -> Call:
    caller, task_id = current_unit.get(), getattr(task.request, "id", None)
    if task_id is None or (caller is not None and task_id in caller.task_ids):
        # a call from within: Celery gives it the request, and so the id, of the task around it
        task_id = str(new_id())
    request = {"task": task.name, "hostname": "inline", "delivery_info": {}}
    delivery = Delivery(task.name, task_id, request, b"", "application/json", "utf-8", {}, "inline")
    arguments = task.reliable_arguments.bind(args, kwargs)
    return Call(
        delivery,
        task,
        task.reliable_options,
        list(args),
        dict(kwargs),
        {},
        key=task.reliable_options.key_for(arguments),
        fingerprint=fingerprint(task.name, task.reliable_arguments.told(arguments)),
    )


def _run(execution: Execution, task: Any, args: Any, kwargs: Any) -> Any:
    call, steps = execution.call, execution.steps
    values = {
        **request_columns(call.delivery.request, call.delivery.queue, call.args, call.kwargs),
        "idempotency_key": call.key,
        "attempt": execution.owned.attempt,
        "started_at": now(),
    }
    token = current_unit.set(execution.unit)
    try:
        value = execution.call_once(task, task.reliable_arguments.bind(args, kwargs))
    except Exception as failure:
        _record_failure(steps, call, failure, values)
        raise
    finally:
        current_unit.reset(token)
    values |= {"result": encoded(value), "finished_at": now()}
    steps.record(
        call.delivery,
        Outcome(state=TaskState.SUCCEEDED, claim_state="succeeded", values=values, unit=execution.unit),
    )
    return value


def _record_failure(steps: ShortTransactions, call: Call, failure: Exception, values: dict[str, Any]) -> None:
    if steps.one_transaction:
        return  # the exception rolls it back
    nothing_happened = isinstance(failure, (TransientError, PermanentError))
    outcome = Outcome(
        state=TaskState.FAILED,
        claim_state="retry_wait",
        values={**values, **failure_columns(failure), "finished_at": now()},
        may_have_acted=not nothing_happened,
    )
    steps.record(call.delivery, outcome)
