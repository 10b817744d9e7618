"""Record an outcome: the one place where a delivery's rows are written, so that many can share a commit."""

from typing import Any

from reliable_tasks.errors import Fenced
from reliable_tasks.model.envelope import replay_number
from reliable_tasks.model.signing import unverified_id
from reliable_tasks.model.states import DeadLetterState, TaskState
from reliable_tasks.model.storable import storable, storable_json
from reliable_tasks.store import attempts, dead_letters, outbox, results
from reliable_tasks.worker.call import Delivery
from reliable_tasks.worker.chording import count_parts
from reliable_tasks.worker.foreign import record_foreign
from reliable_tasks.worker.outcome import Outcome


def record(connection: Any, delivery: Delivery, outcome: Outcome, key: str | None) -> None:
    """Write everything that `outcome` says in the connection's transaction."""
    if outcome.unverified:
        # under the id that it claims, a forged message could end another's task, or its replay
        row = dead_letter_row(delivery, outcome, None)
        dead_letters.add(connection, {**row, "task_id": unverified_id(delivery.message()), "replay": 0})
        return
    states: dict[str, TaskState | None] = {}
    if outcome.state is not None:
        kept = results.store(connection, delivery.task_id, outcome.state, outcome.values)
        if not kept and outcome.attempt is not None:
            refuse_cancelled(connection, delivery.task_id)
        states[delivery.task_id] = outcome.state if kept else None
    for stored in outcome.unit.results:
        if stored.task_id != delivery.task_id:
            states[stored.task_id] = record_foreign(connection, stored, reason=results.PREDECESSOR)
    if outcome.attempt is not None:
        attempts.add(connection, outcome.attempt)
    if outcome.suppressed is not None:
        attempts.suppress(connection, delivery.task_id, delivery.task_name, key, outcome.suppressed)
    _close_replay(connection, delivery, outcome)
    if outcome.dead_reason is not None:
        dead_letters.add(connection, dead_letter_row(delivery, outcome, key))
    outbox.add(connection, outcome.unit.messages)
    count_parts(connection, delivery, outcome, states)


def refuse_cancelled(connection: Any, task_id: str) -> None:
    """Undo what a task did in this transaction when it was cancelled meanwhile: both cannot be true.

    Raises:
        Fenced: when it was.
    """
    if results.state_of(connection, task_id) is TaskState.CANCELLED:
        raise Fenced(f"task {task_id} was cancelled while it began; nothing of it is kept")


def _close_replay(connection: Any, delivery: Delivery, outcome: Outcome) -> None:
    """Say of the dead letter that was replayed how its replay has ended, when it has."""
    replay = replay_number(delivery.headers)
    if outcome.dead_reason is not None or outcome.state is TaskState.FAILED:
        dead_letters.close_replay(connection, delivery.task_id, DeadLetterState.DEAD_AGAIN, replay)
    elif (
        outcome.state in (TaskState.SUCCEEDED, TaskState.DUPLICATE)
        or outcome.claim_state == TaskState.SUCCEEDED.value
    ):
        dead_letters.close_replay(connection, delivery.task_id, DeadLetterState.RESOLVED, replay)


def dead_letter_row(delivery: Delivery, outcome: Outcome, key: str | None) -> dict[str, Any]:
    """The columns of a dead letter: the message byte for byte, and what ended it."""
    message = delivery.message()
    info = delivery.request.get("delivery_info") or {}
    return {
        "task_id": delivery.task_id,
        "replay": message.replay,
        "task_name": delivery.task_name,
        "idempotency_key": key,
        "reason": outcome.dead_reason,
        "queue": delivery.queue,
        "exchange": storable(str(info.get("exchange") or "")),
        "routing_key": storable(str(info.get("routing_key") or "")),
        "body": delivery.body,
        "headers": storable_json(message.headers),
        "properties": storable_json({**message.properties, "priority": message.priority}),
        "exception_type": outcome.values.get("exception_type"),
        "exception_message": outcome.values.get("exception_message"),
        "traceback": outcome.values.get("traceback"),
        "attempts": outcome.values.get("attempt", 0),
    }
