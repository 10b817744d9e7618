"""Dead letters in an operator's hands: look, replay, discard; each act in one transaction with its audit row."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from reliable_tasks import failpoints
from reliable_tasks.errors import MessageRefused, NotFound
from reliable_tasks.model.envelope import REPLAY, Message, without_history
from reliable_tasks.model.signing import NOT_SIGNING, SIGNATURE, CameBy, Signer
from reliable_tasks.model.states import DeadLetterState, TaskState
from reliable_tasks.store import actions, attempts, chords, claims, dead_letters, outbox, results
from reliable_tasks.store.dead_letters import Filter
from reliable_tasks.store.engine import begin

__all__ = ["Done", "Filter", "Known", "Operator", "discard", "groups", "matching", "page", "replay", "show"]

_NEVER_REPLAYED = {
    "uncertain": (
        "its call may have happened, and a replay could do it twice; ask the other side and settle it first"
    ),
    "beyond_retention": (
        "its key may be forgotten, and a replay could do it twice; find out from the effects whether it was done, "
        "and send a new one if not"
    ),
    "conflict": "its key belongs to another payload; compare both, then discard it or send it with a key of its own",
}
_STALE_HEADERS = ("expires", "eta")
"""What would end the new delivery at once, or hold it in a worker's memory."""


@dataclass(frozen=True)
class Operator:
    """Who acts and why, for the audit."""

    name: str
    reason: str | None = None


@dataclass(frozen=True)
class Known:
    """What this deployment knows: a message that it does not know would only die again."""

    queue: Callable[[str], bool]
    task: Callable[[str], bool] | None = None
    signer: Signer = NOT_SIGNING


@dataclass(frozen=True)
class Done:
    """What became of one item: `replayed`, `discarded`, `nothing` or `refused`; in a preview, `would be ...`."""

    dead_letter: int
    outcome: str
    task_id: str | None = None
    task_name: str | None = None
    replay: int | None = None
    detail: str | None = None


def page(engine: Any, wanted: Filter, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Dead letters, oldest first; `after` is the id where the page before ended."""
    with begin(engine) as connection:
        return dead_letters.page(connection, wanted, after=after, limit=limit)


def groups(engine: Any) -> list[dict[str, Any]]:
    """How many there are, by state, reason and task."""
    with begin(engine) as connection:
        return dead_letters.counts(connection)


def matching(engine: Any, wanted: Filter) -> list[int]:
    """The ids of all that match now: a selection that does not grow while it is worked on."""
    with begin(engine) as connection:
        return dead_letters.ids(connection, wanted)


def show(engine: Any, dead_letter_id: int) -> dict[str, Any]:
    """One dead letter with the attempts of its task and what operators did.

    Raises:
        NotFound: when there is none of this id.
    """
    with begin(engine) as connection:
        row = dead_letters.read(connection, dead_letter_id)
        if row is None:
            raise NotFound(
                f"there is no dead letter {dead_letter_id}",
                hint="`reliable-tasks dead-letters list` shows them",
            )
        return {
            **row,
            "task_attempts": attempts.of_task(connection, row["task_id"]),
            "operator_actions": actions.of_subject(connection, row["task_id"]),
        }


def replay(
    engine: Any,
    ids: Iterable[int],
    by: Operator,
    known: Known,
    *,
    dry_run: bool = False,
    vouch: bool = False,
) -> Iterator[Done]:
    """Send dead letters to their queues again, under the same task id and key; one transaction each.

    What is sent is signed anew when the dead letter's own signature is right, or when the operator vouches for it.
    A second replay of the same one is nothing: the first has moved it, and only `open` ones move.
    """
    for number in ids:
        with begin(engine) as connection:
            done = _replay(connection, number, by, known, dry_run=dry_run, vouch=vouch)
            if failpoints.ACTIVE:
                failpoints.reach("replay.after_intent", connection.connection)
        if failpoints.ACTIVE:
            failpoints.reach("replay.after_commit")
        yield done  # after the commit: what is told has happened


def discard(engine: Any, ids: Iterable[int], by: Operator, *, dry_run: bool = False) -> Iterator[Done]:
    """End dead letters for good, with the operator's reason; one transaction each."""
    for number in ids:
        with begin(engine) as connection:
            done = _discard(connection, number, by, dry_run)
        yield done


def _replay(connection: Any, number: int, by: Operator, known: Known, *, dry_run: bool, vouch: bool) -> Done:
    row = dead_letters.get(connection, number)
    if row is None or row["state"] != DeadLetterState.OPEN:
        return _not_open(number, row, DeadLetterState.REPLAYING)
    distrust = _distrust(row, known.signer)
    if distrust is not None:
        item = Done(number, "refused", row["task_id"], row["task_name"], detail=distrust.message)
        if not vouch:
            return replace(item, detail=f"{distrust.message}; when you know that it is genuine, add --vouch")
        # from here on it is the task that it claims to be: the operator says so
        row = {**row, "task_id": str(row["headers"].get("id") or row["task_id"])}
        if dead_letters.has_other(connection, row["task_id"], row["replay"], number):
            return replace(
                item, detail=f"task {row['task_id']} has a dead letter of its own: replay that one"
            )
    item = Done(number, "refused", row["task_id"], row["task_name"])
    claim = _claim_of(connection, row)
    stored = results.state_of(connection, row["task_id"])
    refusal = _refusal(row, claim, stored, known)
    if refusal is not None:
        return replace(item, detail=refusal)
    # a dead key opens only for a higher number than it has seen, from whichever task
    again = max(row["replay"], claim["replay"] if claim else 0) + 1
    item = replace(item, replay=again, detail=f"to queue {row['queue']}")
    if dry_run:
        return replace(item, outcome="would be replayed")
    dead_letters.move(connection, number, DeadLetterState.REPLAYING, by.reason)
    if distrust is not None:
        dead_letters.name(connection, number, row["task_id"])
    _enqueued_again(connection, row, stored, again)
    message = _message(row, again)
    signed = SIGNATURE in message.headers or distrust is not None
    outbox.add(connection, [known.signer.sign(message, datetime.now(UTC)) if signed else message])
    actions.record(
        connection,
        by.name,
        "dead_letter.replay",
        row["task_id"],
        by.reason,
        dead_letter=number,
        replay=again,
        queue=row["queue"],
        **({"vouched_for": distrust.reason} if distrust is not None else {}),
    )
    return replace(item, outcome="replayed")


def _discard(connection: Any, number: int, by: Operator, dry_run: bool) -> Done:
    row = dead_letters.get(connection, number)
    if row is None or row["state"] != DeadLetterState.OPEN:
        return _not_open(number, row, DeadLetterState.DISCARDED)
    item = Done(number, "refused", row["task_id"], row["task_name"], row["replay"])
    if results.state_of(connection, row["task_id"]) is TaskState.UNCERTAIN:
        return replace(item, detail="its call may have happened; ask the other side and settle it first")
    if dry_run:
        return replace(item, outcome="would be discarded")
    dead_letters.move(connection, number, DeadLetterState.DISCARDED, by.reason)
    results.move(connection, row["task_id"], TaskState.DISCARDED, [TaskState.DEAD], reason=by.reason)
    if row["task_name"] and row["idempotency_key"]:
        claims.discard(connection, row["task_name"], row["idempotency_key"], row["task_id"])
    actions.record(connection, by.name, "dead_letter.discard", row["task_id"], by.reason, dead_letter=number)
    return replace(item, outcome="discarded")


def _not_open(number: int, row: dict[str, Any] | None, target: DeadLetterState) -> Done:
    if row is None:
        return Done(number, "refused", detail="there is no such dead letter")
    repeated = row["state"] == target or (
        target is DeadLetterState.REPLAYING and row["state"] == DeadLetterState.RESOLVED
    )
    return Done(
        number,
        "nothing" if repeated else "refused",
        row["task_id"],
        row["task_name"],
        row["replay"],
        f"it is {row['state']} since {row['changed_at']:%Y-%m-%d %H:%M:%S} UTC",
    )


def _refusal(
    row: dict[str, Any], claim: dict[str, Any] | None, stored: TaskState | None, known: Known
) -> str | None:
    """Why this dead letter may not be replayed; None when it may."""
    if row["reason"] in _NEVER_REPLAYED:
        return _NEVER_REPLAYED[row["reason"]]
    if not row["task_name"]:
        return "the message does not say which task it is for"
    if known.task is not None and not known.task(row["task_name"]):
        return f"no task {row['task_name']} is registered in the application"
    if known.task is None and row["reason"] in ("undecodable", "unknown_task"):
        return f"whether there is a task {row['task_name']} is not known here; name the application with -A"
    if not row["queue"] or not known.queue(row["queue"]):
        return f"the topology declares no queue {row['queue']}"
    if stored not in (None, TaskState.DEAD):
        return f"the task is {stored}"
    if claim is not None and claim["state"] in ("uncertain", "failed", "discarded"):
        return f"the key {row['idempotency_key']} is {claim['state']} by task {claim['task_id']}"
    return None


def _claim_of(connection: Any, row: dict[str, Any]) -> dict[str, Any] | None:
    if not row["task_name"] or not row["idempotency_key"]:
        return None
    return claims.get(connection, row["task_name"], row["idempotency_key"])


def _enqueued_again(connection: Any, row: dict[str, Any], stored: TaskState | None, again: int) -> None:
    """The result as before its first attempt; what it was stays in the attempts and in the dead letter."""
    # its chord waits for it again, and so does a body that has failed because of it
    chords.note_state(connection, row["task_id"], TaskState.ENQUEUED)
    if stored is None:
        values = {"name": row["task_name"], "queue": row["queue"], "replay": again}
        results.store(connection, row["task_id"], TaskState.ENQUEUED, values)
        return
    ended = (
        "result",
        "exception_type",
        "exception_message",
        "traceback",
        "reason",
        "started_at",
        "finished_at",
    )
    results.move(
        connection,
        row["task_id"],
        TaskState.ENQUEUED,
        [TaskState.DEAD],
        replay=again,
        **dict.fromkeys(ended),
    )


def _distrust(row: dict[str, Any], signer: Signer) -> MessageRefused | None:
    """Why a worker would refuse the dead letter as it is: nobody of ours has signed it, or not for this queue."""
    try:
        came_by = CameBy(row["exchange"] or "", row["routing_key"] or "")
        signer.verify(_kept(row), came_by)
    except MessageRefused as refusal:
        return refusal
    return None


def _message(row: dict[str, Any], again: int) -> Message:
    """The same message, byte for byte; with the number of its replay, and its attempts counted anew."""
    kept = _kept(row)
    headers = {name: value for name, value in kept.headers.items() if name not in _STALE_HEADERS}
    return replace(kept, headers={**headers, "retries": 0, REPLAY: again})


def _kept(row: dict[str, Any]) -> Message:
    properties = dict(row["properties"])
    return Message(
        task_id=row["task_id"],
        task_name=row["task_name"],
        exchange="",
        routing_key="",
        queue=row["queue"],
        body=bytes(row["body"]),
        headers=without_history(row["headers"]),
        priority=properties.pop("priority", None),
        properties=properties,
    )
