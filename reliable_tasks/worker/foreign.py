"""Results that a task stores for another id, or a state of its own such as PROGRESS."""

from typing import Any

from reliable_tasks.model.states import ENDS, TaskState
from reliable_tasks.store import claims, results
from reliable_tasks.worker.rows import now
from reliable_tasks.worker.unit import StoredResult

_STATES = {
    "SUCCESS": TaskState.SUCCEEDED,
    "FAILURE": TaskState.FAILED,
    "RETRY": TaskState.RETRY_WAIT,
    "REVOKED": TaskState.CANCELLED,
    "STARTED": TaskState.RUNNING,
}


def record_foreign(connection: Any, stored: StoredResult, reason: str | None = None) -> TaskState | None:
    """Write it in the connection's transaction; returns the state that it has come to, None when it has not."""
    state = _STATES.get(stored.celery_state)
    values = dict(stored.values)
    if state is TaskState.FAILED and reason is not None:
        values["reason"] = reason
    if state is TaskState.CANCELLED and values.get("exception_message") == "expired":
        state = TaskState.EXPIRED
    if state is TaskState.CANCELLED and _in_doubt(connection, stored.task_id):
        return None  # `celery control revoke`, of a task that may have called something outside
    if state is None:
        state, values["celery_state"] = TaskState.RUNNING, stored.celery_state
    if state in ENDS:
        values.setdefault("finished_at", now())
    elif state is TaskState.RUNNING:
        values["finished_at"] = None
    return state if results.store(connection, stored.task_id, state, values) else None


def _in_doubt(connection: Any, task_id: str) -> bool:
    row = results.get(connection, task_id)
    return row is not None and claims.in_doubt(connection, row["name"], row["idempotency_key"], task_id)
