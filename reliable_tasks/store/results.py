"""Results: a task's current outcome. Written by upserts that only follow legal transitions."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Text, Uuid, and_, any_, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.model.states import ENDS, TaskState, sources
from reliable_tasks.store.ended import note_ended
from reliable_tasks.store.identity import find_result_id, own_id, result_id_for
from reliable_tasks.store.tables import results, task_ids

_KEPT = ("enqueued_at", "started_at", "root_id", "parent_id", "correlation_id", "idempotency_key", "name",
         "queue", "priority", "args", "kwargs")  # fmt: skip
"""Columns that a later write without a value for them leaves as they are."""

PREDECESSOR = "predecessor"
"""Why a task failed that never ran: the one before it in its chain has ended badly, and may be replayed."""


def store(connection: Connection, task_id: str, state: TaskState, values: Mapping[str, Any]) -> bool:
    """Write a task's outcome; False when the stored state may not change to `state` (a late writer lost)."""
    row = {**values, "id": result_id_for(connection, task_id), "task_id": task_id, "state": state.value}
    kept = bool(connection.execute(_storing(state, tuple(row)), row).rowcount == 1)
    if kept and state in ENDS:
        note_ended(connection, task_id)
    return kept


@cache
def _storing(state: TaskState, columns: tuple[str, ...]) -> Any:
    """The statement that moves to a state; kept, since building it costs more than running it."""
    new = insert(results)
    changed = {
        name: func.coalesce(new.excluded[name], results.c[name]) if name in _KEPT else new.excluded[name]
        for name in columns
        if name not in ("id", "task_id")
    }
    allowed = [source.value for source in sources(state)] + [state.value]
    if state is TaskState.ENQUEUED:
        allowed = [TaskState.DEAD.value, TaskState.UNCERTAIN.value]
    if state not in (TaskState.ENQUEUED, TaskState.RUNNING, TaskState.RETRY_WAIT):
        allowed.remove(state.value)  # an end is written once
    return new.on_conflict_do_update(
        index_elements=[results.c.id],
        set_=changed,
        # a replayed task that ends dead again is a new end
        where=or_(
            results.c.state.in_(allowed),
            and_(results.c.state == "dead", new.excluded.replay > results.c.replay),
            and_(results.c.state == "failed", results.c.reason == PREDECESSOR),
        ),
    )


def get(connection: Connection, task_id: str) -> dict[str, Any] | None:
    """The result row of a task id, as a mapping of columns."""
    return _read(connection, _WHOLE, task_id)


def standing(connection: Connection, task_id: str) -> dict[str, Any] | None:
    """What decides whether a delivery may still run: state, reason, replay and started_at."""
    return _read(connection, _STANDING, task_id)


_WHOLE = select(results).where(results.c.id == bindparam("p_id"))
_STANDING = select(results.c.state, results.c.reason, results.c.replay, results.c.started_at).where(
    results.c.id == bindparam("p_id")
)


def _read(connection: Connection, query: Any, task_id: str) -> dict[str, Any] | None:
    result_id = find_result_id(connection, task_id)
    if result_id is None:
        return None
    row = connection.execute(query, {"p_id": result_id}).mappings().one_or_none()
    return dict(row) if row is not None else None


_ENDED = results.c.state == any_(bindparam("p_states", type_=ARRAY(Text)))
_OWN = results.c.id == any_(bindparam("p_own", type_=ARRAY(Uuid)))
_FOREIGN = task_ids.c.task_id == any_(bindparam("p_foreign", type_=ARRAY(Text)))
_MAPPED = results.c.id == task_ids.c.result_id


def ended(connection: Connection, wanted: Collection[str]) -> list[dict[str, Any]]:
    """The rows of those of the tasks that have ended, in no order. Ask for a few hundred at a time."""
    found: list[dict[str, Any]] = []
    for query, values in _of(select(results), wanted):
        rows = connection.execute(query.where(_ENDED), {**values, "p_states": [str(end) for end in ENDS]})
        found += map(dict, rows.mappings())
    return found


def count_states(connection: Connection, wanted: Collection[str]) -> Counter[tuple[str, str | None]]:
    """How many of the tasks are in which state, and in which state of their own; those not known yet are in none."""
    counted: Counter[tuple[str, str | None]] = Counter()
    for query, values in _of(select(results.c.state, results.c.celery_state, func.count()), wanted):
        grouped = query.group_by(results.c.state, results.c.celery_state)
        for state, celery_state, count in connection.execute(grouped, values):
            counted[state, celery_state] += count
    return counted


def _of(query: Any, wanted: Collection[str]) -> list[tuple[Any, dict[str, Any]]]:
    """The query for all of the tasks, as one for our own ids and one for others; whichever are needed."""
    own = {task_id: own_id(task_id) for task_id in wanted}
    ours = [result_id for result_id in own.values() if result_id is not None]
    foreign = [task_id for task_id, result_id in own.items() if result_id is None]
    parts: list[tuple[Any, dict[str, Any]]] = []
    if ours:
        parts.append((query.where(_OWN), {"p_own": ours}))
    if foreign:
        parts.append((query.join_from(results, task_ids, _MAPPED).where(_FOREIGN), {"p_foreign": foreign}))
    return parts


def state_of(connection: Connection, task_id: str) -> TaskState | None:
    """The stored state of a task id."""
    row = standing(connection, task_id)
    return TaskState(row["state"]) if row else None


def move(
    connection: Connection, task_id: str, target: TaskState, states: Sequence[TaskState], **values: Any
) -> bool:
    """Conditional UPDATE of a result's state; False when it was in none of `states`."""
    result_id = find_result_id(connection, task_id)
    changed = connection.execute(
        results.update()
        .where(results.c.id == result_id, results.c.state.in_([state.value for state in states]))
        .values(state=target.value, celery_state=None, **values)
    )
    if changed.rowcount == 1 and target in ENDS:
        note_ended(connection, task_id)
    return changed.rowcount == 1


def cancel(connection: Connection, task_id: str, **values: Any) -> bool:
    """Cancel a task that waits, or one not known yet; False when it runs or has ended."""
    row = {"id": result_id_for(connection, task_id), "task_id": task_id, "state": "cancelled", **values}
    # waits for a worker that records this very task in an open transaction
    unknown = connection.execute(insert(results).values(row).on_conflict_do_nothing()).rowcount == 1
    waiting = (TaskState.ENQUEUED, TaskState.RETRY_WAIT)
    if unknown:
        note_ended(connection, task_id)
    return unknown or move(connection, task_id, TaskState.CANCELLED, waiting, **values)


def forget(connection: Connection, task_id: str) -> None:
    """Delete through the view, which obeys legal holds and leaves a receipt."""
    connection.exec_driver_sql("DELETE FROM reliable_tasks.celery_taskmeta WHERE task_id = %s", (task_id,))


def page(
    connection: Connection,
    *,
    state: str | None = None,
    name: str | None = None,
    key: str | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Results, newest first; `before` is the id where the page before ended."""
    query = select(results).order_by(results.c.id.desc()).limit(limit)
    for column, value in ((results.c.state, state), (results.c.name, name), (results.c.idempotency_key, key)):
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        query = query.where(results.c.id < before)
    return [dict(row) for row in connection.execute(query).mappings()]


def statistics(connection: Connection) -> list[dict[str, Any]]:
    """Per task name and state: how many, and the average seconds from start to finish."""
    seconds = func.extract("epoch", results.c.finished_at - results.c.started_at)
    query = (
        select(
            results.c.name,
            results.c.state,
            func.count().label("count"),
            func.round(func.avg(seconds), 4).label("average_seconds"),
            func.min(results.c.finished_at).label("first_finished_at"),
            func.max(results.c.finished_at).label("last_finished_at"),
        )
        .group_by(results.c.name, results.c.state)
        .order_by(results.c.name, results.c.state)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
