"""Chords: begun with their header, finished by the transaction that ends the last part of it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery.backends.base import _create_chord_error_with_cause
from celery.canvas import Signature, chord, group, maybe_signature
from celery.result import ResultSet

from reliable_tasks.errors import ExecutionError, ResultDeleted
from reliable_tasks.model.states import ENDS, TaskState
from reliable_tasks.store import chords, outbox, results
from reliable_tasks.store.chords import Complete, NewChord
from reliable_tasks.store.engine import begin, is_outage
from reliable_tasks.worker.call import Delivery
from reliable_tasks.worker.foreign import record_foreign
from reliable_tasks.worker.outcome import Outcome
from reliable_tasks.worker.publishing import redirect
from reliable_tasks.worker.sets import leaves_of
from reliable_tasks.worker.unit import UnitOfWork, current_unit
from reliable_tasks.worker.waiting import in_parts

FINISH = "reliable_tasks.finish_chord"
"""The task that finishes a chord whose last part was ended by somebody else than an execution of a worker's."""


def new_chord(app: Any, header: tuple[str, Iterable[Any]], body: Signature) -> NewChord:
    """What is to be known of a header before its first part can end."""
    group_id, members = header[0], list(header[1])
    unit = current_unit.get()
    return NewChord(
        group_id,
        tuple(leaf.id for leaf in leaves_of(members)),
        _shape(members) if any(isinstance(member, ResultSet) for member in members) else None,
        _finisher(app, group_id, body) if FINISH in app.tasks else None,
        unit.mark() if unit else 0,
    )


def _shape(members: Iterable[Any]) -> list[Any]:
    """How the results of groups within the header nest: a list for each, a null for each task."""
    return [_shape(member.results) if isinstance(member, ResultSet) else None for member in members]


def _shaped(shape: Iterable[Any], values: Iterator[Any]) -> list[Any]:
    return [next(values) if inner is None else _shaped(inner, values) for inner in shape]


def _finisher(app: Any, group_id: str, body: Signature) -> Any:
    """The message, signed like any other, and not sent. It goes where the body goes: there is a worker for that."""
    first = next(_members(app, body, ()), body)
    queue = first.options.get("queue") or getattr(app.tasks.get(first.task), "queue", None)
    with _collecting(None) as unit:
        app.send_task(FINISH, (group_id, dict(body)), queue=queue, root_id=body.options.get("root_id"))
    return unit.messages[0]


def finish_chord(group_id: str, body: Any) -> None:
    """What the task FINISH does: let the transaction that records it finish the chord."""
    unit = current_unit.get()
    assert unit is not None, "only a worker calls it"
    unit.bodies[group_id] = body
    unit.finish.append(group_id)


def count_parts(
    connection: Any, delivery: Delivery, outcome: Outcome, states: Mapping[str, TaskState | None]
) -> None:
    """Write the chords that an execution sends, and count the ends in a delivery's transaction.

    Args:
        states: what tasks have come to in it.
    """
    unit = outcome.unit
    chords.add(connection, unit.chords)
    ends = {task_id: state for task_id, state in states.items() if state in ENDS}
    if outcome.chord is None:
        if ends.get(delivery.task_id) in chords.GOOD:
            del ends[delivery.task_id]  # no part of a chord, as most tasks, and no question to the database
    else:
        unit.bodies[delivery.request.get("group") or ""] = outcome.chord
        if not ends and outcome.state is None:
            # it had ended before; whoever ended it has counted it, if it was a part already then
            known = results.state_of(connection, delivery.task_id)
            ends = {delivery.task_id: known} if known in ENDS else {}
    if ends or unit.finish:
        count_ends(connection, outcome.app, unit, ends)


def count_ends(connection: Any, app: Any, unit: UnitOfWork, states: Mapping[str, TaskState]) -> None:
    """Count ends in their chords, and finish the chords that wait for nothing more; and so on with those of these.

    Args:
        app: the application, where there is one at hand.
        unit: says which chords' bodies are known. The others are left to a worker.
    """
    waiting = [*unit.finish, *chords.count(connection, states)]
    while waiting:
        group_id = waiting.pop()
        if app is None or group_id not in unit.bodies:
            chords.send_finishers(connection, [group_id])
            continue
        complete = chords.take_complete(connection, group_id)
        if complete is not None:
            body = maybe_signature(unit.bodies[group_id], app=app)
            waiting += _finish(connection, app, unit, complete, body)


def _finish(connection: Any, app: Any, unit: UnitOfWork, complete: Complete, body: Signature) -> list[str]:
    """Send a chord's body, or fail it; returns the chords that this completes."""
    good = True
    try:
        with _collecting(unit.correlation_id) as sent:
            body.delay(_results(connection, app, complete))
    except Exception as error:
        if is_outage(error):
            raise
        good = False
        with _collecting(unit.correlation_id) as sent:
            unit.bodies |= fail_body(app, body, _chord_error(error))
    states = {
        stored.task_id: record_foreign(connection, stored, reason=results.PREDECESSOR)
        for stored in sent.results
    }
    outbox.add(connection, sent.messages)
    chords.add(connection, sent.chords)
    chords.finish(connection, complete.group_id, sent=good)
    return chords.count(connection, {task_id: state for task_id, state in states.items() if state})


@contextmanager
def _collecting(correlation_id: str | None) -> Iterator[UnitOfWork]:
    unit = UnitOfWork(correlation_id=correlation_id)
    token = current_unit.set(unit)
    try:
        with redirect(unit.messages.append, unit.chords.append):
            yield unit
    finally:
        current_unit.reset(token)


class _PartFailed(Exception):
    """A part of the header has failed; the cause says how."""


def _results(connection: Any, app: Any, complete: Complete) -> list[Any]:
    """What the body is given.

    Raises:
        _PartFailed: when a part has failed.
        ResultDeleted: when the result of a part is not kept any more.
    """
    found: dict[str, Any] = {}
    for some in in_parts(complete.parts):
        for row in results.ended(connection, some):
            found[row["task_id"]] = app.backend.meta_of(row)
    missing = [part for part in complete.parts if part not in found]
    if missing:
        raise ResultDeleted(
            f"the results of {len(missing)} parts are deleted, the first is task {missing[0]}",
            hint="delete results of a header when its body has ended",
        )
    if complete.failed:
        part, told = complete.parts[0], found[complete.parts[0]]["result"]
        why = told if isinstance(told, BaseException) else ExecutionError(found[part]["status"])
        raise _PartFailed(f"Dependency {part} raised {why!r}") from why
    values = [found[part]["result"] for part in complete.parts]
    return values if complete.shape is None else _shaped(complete.shape, iter(values))


def _chord_error(error: Exception) -> Exception:
    if isinstance(error, _PartFailed):
        return _create_chord_error_with_cause(message=str(error), original_exc=error.__cause__)  # type: ignore[no-any-return]  # Celery has no types
    return _create_chord_error_with_cause(message=f"Callback error: {error!r}", original_exc=error)  # type: ignore[no-any-return]  # as above


def fail_body(app: Any, body: Signature, error: Exception) -> dict[str, Any]:
    """End each task of a chord's body as Celery does; returns the bodies of the chords that these are parts of."""
    outer = {}
    for member in _members(app, body, ()):
        if member.options.get("chord"):
            outer[member.options.get("group_id")] = member.options["chord"]
        try:
            raise error
        except type(error):
            app.backend.chord_error_from_stack(member, exc=error)
    return outer


def _members(app: Any, body: Signature, errbacks: Iterable[Any]) -> Iterator[Signature]:
    """The tasks of a body that somebody waits for, each with the errbacks of the group that it is in."""
    body = maybe_signature(body, app=app).clone()
    if isinstance(body, group):
        for task in body.tasks:
            yield from _members(app, task, [*errbacks, *body.options.get("link_error", ())])
    elif isinstance(body, chord) and body.body is not None:
        yield from _members(app, body.body, errbacks)
    else:
        own = list(body.options.get("link_error", ()))
        body.options["link_error"] = [*own, *(one for one in errbacks if one not in own)]
        yield body


def finish_here(app: Any, engine: Any, request: Any, state: TaskState) -> None:
    """Count an end for an application that only uses our backend: it has no outbox, so it publishes under the lock.

    A crash between its publishing and the commit sends the body twice, if the part is delivered again.
    """
    waiting = {request.group: request.chord}
    while waiting:
        group_id, kept = waiting.popitem()
        with begin(engine) as connection:
            if group_id == request.group:
                chords.count(connection, {request.id: state})
            complete = chords.take_complete(connection, group_id)
            if complete is None:
                continue
            body, good = maybe_signature(kept, app=app), True
            try:
                body.delay(_results(connection, app, complete))
            except Exception as error:
                if is_outage(error):
                    raise
                good = False
                waiting |= fail_body(app, body, _chord_error(error))
            chords.finish(connection, group_id, sent=good)
