"""What ran, when, and how it ended: for developers and auditors."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from reliable_tasks.errors import NotFound
from reliable_tasks.store import actions, attempts, dead_letters, results
from reliable_tasks.store.engine import begin


@dataclass(frozen=True)
class Event:
    """One thing that happened to a task."""

    at: datetime
    event: str
    detail: str = ""
    who: str | None = None


def page(
    engine: Any,
    *,
    state: str | None = None,
    name: str | None = None,
    key: str | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Results, newest first; `before` is the id where the page before ended."""
    with begin(engine) as connection:
        return results.page(connection, state=state, name=name, key=key, before=before, limit=limit)


def statistics(engine: Any) -> list[dict[str, Any]]:
    """Per task name and state: how many, and the average seconds from start to finish."""
    with begin(engine) as connection:
        return results.statistics(connection)


def show(engine: Any, task_id: str) -> dict[str, Any]:
    """A task's result and its attempts.

    Raises:
        NotFound: when no result of this task is stored.
    """
    with begin(engine) as connection:
        row = results.get(connection, task_id)
        if row is None:
            raise _unknown(task_id)
        return {**row, "attempts": attempts.of_task(connection, task_id)}


def timeline(engine: Any, task_id: str) -> list[Event]:
    """Everything that is recorded of a task, in the order in which it happened.

    Raises:
        NotFound: when nothing is recorded.
    """
    with begin(engine) as connection:
        events = [
            *_of_result(results.get(connection, task_id)),
            *(event for row in attempts.of_task(connection, task_id) for event in _of_attempt(row)),
            *map(_of_suppressed, attempts.suppressed_of(connection, task_id)),
            *(event for row in dead_letters.of_task(connection, task_id) for event in _of_dead_letter(row)),
            *map(_of_action, actions.of_subject(connection, task_id)),
        ]
    if not events:
        raise _unknown(task_id)
    return sorted(events, key=lambda event: event.at)


def _unknown(task_id: str) -> NotFound:
    return NotFound(
        f"no task {task_id} is recorded",
        hint="a task sent directly is recorded when a worker has taken it; `reliable-tasks results list` shows all",
    )


def _of_result(row: dict[str, Any] | None) -> list[Event]:
    if row is None:
        return []
    events = []
    if row["enqueued_at"]:
        events.append(Event(row["enqueued_at"], "enqueued", f"{row['name']} in queue {row['queue']}"))
    if row["finished_at"] and row["duplicate_of"]:
        events.append(Event(row["finished_at"], "duplicate", f"of task {row['duplicate_of']}"))
    elif row["finished_at"] and row["state"] in ("cancelled", "expired"):
        events.append(Event(row["finished_at"], row["state"], row["reason"] or ""))
    return events


def _of_attempt(row: dict[str, Any]) -> list[Event]:
    name = f"attempt {row['attempt']}" + (f" of replay {row['replay']}" if row["replay"] else "")
    found = []
    if row["started_at"]:
        found.append(Event(row["started_at"], "started", name, row["worker"]))
    error = f": {row['exception_type']}: {row['exception_message']}" if row["exception_type"] else ""
    after = row["next_step"] if row["next_step"] not in (None, row["state"]) else None
    ended = f"{name}{error}" + (f", then {after}" if after else "")
    found.append(Event(row["finished_at"], row["state"], ended, row["worker"]))
    return found


def _of_suppressed(row: dict[str, Any]) -> Event:
    return Event(row["at"], "suppressed", f"a delivery that ran nothing: {row['kind']}")


def _of_dead_letter(row: dict[str, Any]) -> list[Event]:
    name = f"dead letter {row['id']}"
    error = f": {row['exception_message']}" if row["exception_message"] else ""
    found = [Event(row["first_seen"], "dead", f"{name}, {row['reason']}{error}")]
    if row["state"] in ("resolved", "dead_again"):
        found.append(Event(row["changed_at"], row["state"], name))
    return found


def _of_action(row: dict[str, Any]) -> Event:
    details = ", ".join(f"{name} {value}" for name, value in row["details"].items())
    reason = f": {row['reason']}" if row["reason"] else ""
    return Event(row["at"], row["action"], f"{details}{reason}", row["actor"])
