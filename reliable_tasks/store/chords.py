"""Chords: how many parts of a header have ended, counted in the transaction that ends them.

Each part counts once, whatever ends it and however often: what it counts as is kept beside it, and only a change of
that changes the counts. A dead part that is replayed does not count as ended again. The counts are one row, so that of
two last parts that end at the same time one waits for the other, and then sees that it is the last.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Text, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.states import ENDS, TaskState
from reliable_tasks.store import outbox
from reliable_tasks.store.tables_of_chords import chord_parts, chords

GOOD = frozenset({TaskState.SUCCEEDED, TaskState.DUPLICATE})
"""Ends of which a body is given the result; any other fails it."""


@dataclass(frozen=True)
class NewChord:
    """A header that is about to be sent.

    Args:
        parts: the tasks that must end, in the order in which the body gets their results.
        shape: how these results nest, where the header has groups within it; None is a plain list.
        finisher: a task that finishes the chord, sent when its last part is ended by somebody who cannot.
        after: how many messages the same execution had sent before.
    """

    group_id: str
    parts: tuple[str, ...]
    shape: Any = None
    finisher: Message | None = None
    after: int = 0


def statements(chord: NewChord) -> list[Any]:
    """INSERTs of a chord, also for a caller's own session. One that is there, since it is sent again, stays."""
    new = insert(chords).values(
        group_id=chord.group_id,
        size=len(chord.parts),
        shape=chord.shape,
        finisher=_kept(chord.finisher) if chord.finisher else None,
    )
    listed = func.unnest(bindparam("p_parts", list(chord.parts), type_=ARRAY(Text)))
    given = listed.table_valued("task_id", with_ordinality="position").render_derived()
    parts = insert(chord_parts).from_select(
        ["group_id", "task_id", "position"],
        select(bindparam("p_group", chord.group_id, type_=Text), given.c.task_id, given.c.position),
    )
    return [new.on_conflict_do_nothing(), parts.on_conflict_do_nothing()]


def add(connection: Connection, new: Iterable[NewChord]) -> None:
    """Write chords in the transaction that sends their headers."""
    for chord in new:
        for statement in statements(chord):
            connection.execute(statement)


def count(connection: Connection, states: Mapping[str, TaskState]) -> list[str]:
    """Count what these tasks have come to in the chords that they are parts of.

    Returns:
        The chords of which nothing is awaited any more, and that are not finished.
    """
    changes: dict[str, Counter[str]] = {}
    for group_id, before, now in connection.execute(_CHANGED, _changed(states)):
        change = changes.setdefault(group_id, Counter())
        change[before] -= 1
        change[now] += 1
    complete = []
    for group_id in sorted(changes):  # two that count in two chords must not wait for each other
        change = changes[group_id]
        values = {
            "p_group": group_id,
            "p_ended": change["succeeded"] + change["failed"],
            "p_failed": change["failed"],
        }
        size, ended = connection.execute(_COUNTED, values).one()
        if size == ended:
            complete.append(group_id)
    return complete


_CHANGED = text(
    """
    UPDATE reliable_tasks.chord_parts part SET state = given.state
      FROM unnest(CAST(:p_ids AS text[]), CAST(:p_states AS text[])) given(task_id, state)
      JOIN (SELECT task_id, state FROM reliable_tasks.chord_parts
             WHERE task_id = ANY(CAST(:p_ids AS text[])) ORDER BY task_id FOR UPDATE) was USING (task_id)
     WHERE part.task_id = given.task_id AND was.state <> given.state
    RETURNING part.group_id, was.state, part.state
    """
)

_COUNTED = (
    update(chords)
    .where(chords.c.group_id == bindparam("p_group"))
    .values(
        ended=chords.c.ended + bindparam("p_ended"),
        failed=chords.c.failed + bindparam("p_failed"),
        state="waiting",
        done_at=None,
    )
    .returning(chords.c.size, chords.c.ended)
)


def _changed(states: Mapping[str, TaskState]) -> dict[str, list[str]]:
    counted = {
        task_id: "waiting" if state not in ENDS else "succeeded" if state in GOOD else "failed"
        for task_id, state in states.items()
    }
    return {"p_ids": list(counted), "p_states": list(counted.values())}


def note_state(connection: Connection, task_id: str, state: TaskState) -> None:
    """Count a task's new state; when that leaves nothing to wait for, have its chord finished by a worker.

    For whoever has no Celery at hand to finish it himself: collector, operators, the worker's parent process.
    """
    send_finishers(connection, count(connection, {task_id: state}))


def send_finishers(connection: Connection, group_ids: Iterable[str]) -> None:
    """Have chords finished by a worker: their own message for that goes into the outbox."""
    for group_id in group_ids:
        query = select(chords.c.finisher).where(chords.c.group_id == group_id)
        kept = connection.execute(query).scalar_one()
        if kept is not None:
            outbox.add(connection, [_message(kept)])


@dataclass(frozen=True)
class Complete:
    """A chord of which all parts have ended, locked until the transaction ends."""

    group_id: str
    failed: int
    shape: Any
    parts: list[str] = field(default_factory=list)
    """All of them in order; only the first that failed, when one has."""


def take_complete(connection: Connection, group_id: str) -> Complete | None:
    """The chord, if it is to be finished now: None when it is finished already, waits, or is not known."""
    query = select(chords).where(chords.c.group_id == group_id).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None or row["state"] != "waiting" or row["ended"] < row["size"]:
        return None
    parts = select(chord_parts.c.task_id).where(chord_parts.c.group_id == group_id)
    if row["failed"]:
        parts = parts.where(chord_parts.c.state == "failed").limit(1)
    ordered = connection.execute(parts.order_by(chord_parts.c.position)).scalars()
    return Complete(group_id, row["failed"], row["shape"], list(ordered))


def finish(connection: Connection, group_id: str, *, sent: bool) -> None:
    """Its body is sent, which is final; or has failed, until a part of it is replayed."""
    connection.execute(
        update(chords)
        .where(chords.c.group_id == group_id)
        .values(
            state="sent" if sent else "failed",
            done_at=func.clock_timestamp(),
            **({"finisher": None, "shape": None} if sent else {}),
        )
    )
    if sent:  # from here on nothing that its parts do counts
        connection.execute(delete(chord_parts).where(chord_parts.c.group_id == group_id))


def _kept(message: Message) -> dict[str, Any]:
    row = outbox.row_of(message)
    return {**row, "body": message.body.decode(), "expires_at": None}


def _message(kept: Mapping[str, Any]) -> Message:
    return outbox.message_of({**kept, "body": str(kept["body"]).encode(), "due_at": None})
