"""Cancelling tasks that have not started."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reliable_tasks.model.states import DeadLetterState, TaskState
from reliable_tasks.store import actions, chords, claims, dead_letters, outbox, results
from reliable_tasks.store.engine import begin, database_now


@dataclass(frozen=True)
class Cancellation:
    """What became of the wish: `cancelled`, `nothing` (it was) or `refused`."""

    task_id: str
    outcome: str
    detail: str = ""


def cancel(
    engine: Any, task_ids: Iterable[str], actor: str, reason: str | None = None
) -> Iterator[Cancellation]:
    """Cancel tasks that wait; one transaction each. Never one that runs or has ended.

    An unknown id gets a row too: its message may be in a queue, and the worker that takes it must find the row.
    """
    for task_id in task_ids:
        with begin(engine) as connection:
            done = _cancel(connection, task_id, actor, reason)
        yield done  # after the commit: what is told has happened


def _cancel(connection: Any, task_id: str, actor: str, reason: str | None) -> Cancellation:
    stored = results.get(connection, task_id)
    now = database_now(connection)
    started = stored["started_at"] if stored else None
    waits = stored is not None and stored["state"] == TaskState.RETRY_WAIT
    if (
        stored is not None
        and waits
        and claims.in_doubt(connection, stored["name"], stored["idempotency_key"], task_id)
    ):
        return Cancellation(
            task_id, "refused", "its call may have happened: let its next attempt ask, or replay it"
        )
    # a worker's clock may be ahead of the database's
    finished_at = max(now, started) if started else now
    if not results.cancel(connection, task_id, reason=reason, finished_at=finished_at):
        state = results.state_of(connection, task_id)
        return Cancellation(
            task_id, "nothing" if state is TaskState.CANCELLED else "refused", f"it is {state}"
        )
    withdrawn = outbox.withdraw(connection, task_id)
    chords.note_state(connection, task_id, TaskState.CANCELLED)
    replay = stored["replay"] if stored else 0
    dead_letters.close_replay(connection, task_id, DeadLetterState.RESOLVED, replay)
    actions.record(connection, actor, "task.cancel", task_id, reason, withdrawn=withdrawn)
    where = "not sent yet" if withdrawn else "a worker that is given it will not run it"
    if stored is None:
        return Cancellation(task_id, "cancelled", where if withdrawn else f"not known yet: {where}")
    return Cancellation(task_id, "cancelled", f"it was {stored['state']}; {where}")
