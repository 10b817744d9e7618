"""Dead letters: every message that no attempt will take again without an operator, byte for byte."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.model.states import DEAD_LETTER_TRANSITIONS, DeadLetterState
from reliable_tasks.store.tables import dead_letters

_now = func.clock_timestamp()


def add(connection: Connection, values: Mapping[str, Any], *, collected: bool = False) -> bool:
    """Write a dead letter once per task id and replay; False when it was there.

    The collector only adds when it came: the worker's reason is the better one.
    """
    row = dict(values)
    if collected:
        row["collected_at"] = _now
    new = insert(dead_letters).values(row)
    written: Any = new.on_conflict_do_update(
        index_elements=[dead_letters.c.task_id, dead_letters.c.replay],
        set_={"collected_at": func.coalesce(dead_letters.c.collected_at, new.excluded.collected_at)},
    ).returning(literal_column("xmax = 0"))  # no earlier version of the row: it is new
    return bool(connection.execute(written).scalar_one())


def get(connection: Connection, dead_letter_id: int) -> dict[str, Any] | None:
    """One dead letter, locked against a second operator until the transaction ends."""
    query = select(dead_letters).where(dead_letters.c.id == dead_letter_id).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row is not None else None


def read(connection: Connection, dead_letter_id: int) -> dict[str, Any] | None:
    """One dead letter, without a lock."""
    row = (
        connection.execute(select(dead_letters).where(dead_letters.c.id == dead_letter_id))
        .mappings()
        .one_or_none()
    )
    return dict(row) if row is not None else None


def of_task(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """All dead letters of a task, oldest first: one per replay that died."""
    query = select(dead_letters).where(dead_letters.c.task_id == task_id).order_by(dead_letters.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def move(
    connection: Connection, dead_letter_id: int, target: DeadLetterState, note: str | None = None
) -> bool:
    """Conditional UPDATE of the state; False when it may not follow the present one."""
    allowed = [state.value for state, targets in DEAD_LETTER_TRANSITIONS.items() if target in targets]
    values: dict[str, Any] = {"state": target.value, "changed_at": _now}
    if note is not None:
        values["note"] = note
    changed = connection.execute(
        update(dead_letters)
        .where(dead_letters.c.id == dead_letter_id, dead_letters.c.state.in_(allowed))
        .values(**values)
    )
    return changed.rowcount == 1


def has_other(connection: Connection, task_id: str, replay: int, dead_letter_id: int) -> bool:
    """Whether another dead letter is the one of this task and replay."""
    query = select(func.count()).where(
        dead_letters.c.task_id == task_id,
        dead_letters.c.replay == replay,
        dead_letters.c.id != dead_letter_id,
    )
    return bool(connection.execute(query).scalar_one())


def name(connection: Connection, dead_letter_id: int, task_id: str) -> None:
    """Say of a dead letter that nobody had verified which task's it is."""
    connection.execute(
        update(dead_letters).where(dead_letters.c.id == dead_letter_id).values(task_id=task_id)
    )


def close_replay(connection: Connection, task_id: str, target: DeadLetterState, replay: int) -> None:
    """End the replay, number `replay`, of a task that has now succeeded (RESOLVED) or died again (DEAD_AGAIN)."""
    if not replay:
        return  # most messages are no replay, and a statement for each would cost what it saves
    connection.execute(
        update(dead_letters)
        .where(
            dead_letters.c.task_id == task_id,
            dead_letters.c.state == DeadLetterState.REPLAYING.value,
            # a late copy of the message that died first must not end the replay of it
            dead_letters.c.replay < replay,
        )
        .values(state=target.value, changed_at=_now)
    )


@dataclass(frozen=True)
class Filter:
    """Which dead letters are meant; what is None does not matter."""

    state: str | None = "open"
    reason: str | None = None
    task_name: str | None = None
    queue: str | None = None

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """The query with these conditions."""
        for column, value in (
            (dead_letters.c.state, self.state),
            (dead_letters.c.reason, self.reason),
            (dead_letters.c.task_name, self.task_name),
            (dead_letters.c.queue, self.queue),
        ):
            if value is not None:
                query = query.where(column == value)
        return query


def page(connection: Connection, wanted: Filter, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Dead letters, oldest first; `after` is the id where the page before ended."""
    query = select(dead_letters).where(dead_letters.c.id > after).order_by(dead_letters.c.id).limit(limit)
    return [dict(row) for row in connection.execute(wanted.narrow(query)).mappings()]


def ids(connection: Connection, wanted: Filter) -> list[int]:
    """The ids of all that match now, oldest first."""
    query = wanted.narrow(select(dead_letters.c.id).order_by(dead_letters.c.id))
    return list(connection.execute(query).scalars())


def counts(connection: Connection) -> list[dict[str, Any]]:
    """Dead letters by state, reason and task."""
    query = (
        select(
            dead_letters.c.state,
            dead_letters.c.reason,
            dead_letters.c.task_name,
            func.count().label("count"),
            func.min(dead_letters.c.first_seen).label("oldest"),
        )
        .group_by(dead_letters.c.state, dead_letters.c.reason, dead_letters.c.task_name)
        .order_by(func.count().desc())
    )
    return [dict(row) for row in connection.execute(query).mappings()]
