"""Plain Celery tasks have no key and no claim: their result's row says whether they may run."""

from typing import Any

from reliable_tasks.store import attempts, results
from reliable_tasks.store.verdicts import Owned
from reliable_tasks.worker.call import Call
from reliable_tasks.worker.verdicts import Poison, Withdrawn, attempt_of

MAX_CRASHES = 5
"""Executions that may die with their worker before the message counts as poison."""


def keyless(connection: Any, call: Call, state: dict[str, Any] | None) -> Owned | Withdrawn | Poison:
    """Whether a task without a key may run: unless it has ended, or too many of its executions died.

    Args:
        state: the row of its result, when there is one.
    """
    owned = Owned(0, attempt_of(call), may_have_acted=False, takeover=False)
    if state is None:
        return owned
    # a part of a chain that failed with the part before it has not ended: that one was replayed
    ended = state["state"] in ("succeeded", "failed", "dead") and state["reason"] != results.PREDECESSOR
    if ended and state["replay"] >= call.replay:
        return Withdrawn()
    if state["state"] == "running" and call.delivery.redelivered:
        attempts.add(connection, {**lost_attempt(call, owned.attempt), "started_at": state["started_at"]})
        if attempts.lost(connection, call.task_id, call.replay) > MAX_CRASHES:
            return Poison(owned)
    return owned


def lost_attempt(call: Call, attempt: int, fence: int | None = None) -> dict[str, Any]:
    """The row of an execution that died with its worker: written by the next one."""
    return {
        "task_id": call.task_id,
        "name": call.delivery.task_name,
        "idempotency_key": call.key,
        "attempt": attempt,
        "replay": call.replay,
        "fence": fence,
        "state": "lost",
    }
