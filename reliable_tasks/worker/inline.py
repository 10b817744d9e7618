"""Run an idempotent task in this process: `task(...)`, `task.apply()` and eager mode still claim and record."""

from typing import Any

from reliable_tasks.store.claims import Done, Owned
from reliable_tasks.store.identity import new_id
from reliable_tasks.worker.arguments import fingerprint, to_wire
from reliable_tasks.worker.call import Call, Delivery


def run_inline(task: Any, args: Any, kwargs: Any) -> Any:
    """Claim, run the function once without retries, record; a key that is done gives its stored result.

    Raises:
        Whatever the function raises; nothing of it is recorded then.
        ExecutionError: when the key is busy, in conflict, or ended otherwise.
    """
    from reliable_tasks.errors import ExecutionError
    from reliable_tasks.model.states import TaskState
    from reliable_tasks.store import results
    from reliable_tasks.worker.execution import Execution
    from reliable_tasks.worker.outcome import Outcome
    from reliable_tasks.worker.rows import encoded, now, request_columns
    from reliable_tasks.worker.steps import steps_for
    from reliable_tasks.worker.unit import current_unit

    arguments = task.reliable_arguments.bind(args, kwargs)
    task_id = getattr(task.request, "id", None) or str(new_id())
    request = {"task": task.name, "hostname": "inline", "delivery_info": {}}
    delivery = Delivery(task.name, task_id, request, b"", "application/json", "utf-8", {}, "inline")
    call = Call(delivery, task, task.reliable_options, list(args), dict(kwargs), {})
    call.key = task.reliable_options.key_for(arguments)
    call.fingerprint = fingerprint(task.name, arguments)
    with steps_for(task.app.runtime, task) as steps:
        verdict = steps.claim(call)
        if isinstance(verdict, Done):
            with steps.connection() as connection:
                stored = results.get(connection, verdict.task_id)
            return task.backend.decode(bytes(stored["result"])) if stored and stored["result"] else None
        if not isinstance(verdict, Owned):
            raise ExecutionError(f"the key {call.key} cannot be run now: {verdict}")
        execution = Execution(call, verdict, steps)
        token = current_unit.set(execution.unit)
        started_at = now()
        try:
            value = execution._probed(task, args, kwargs)
        finally:
            current_unit.reset(token)
        values = {
            **request_columns(request, "inline", to_wire(list(args)), to_wire(dict(kwargs))),
            "result": encoded(value),
            "idempotency_key": call.key,
            "attempt": verdict.attempt,
            "started_at": started_at,
            "finished_at": now(),
        }
        outcome = Outcome(
            state=TaskState.SUCCEEDED, claim_state="succeeded", values=values, unit=execution.unit
        )
        steps.record(delivery, outcome)
    return value
