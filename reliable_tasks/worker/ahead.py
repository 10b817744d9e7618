"""Usual deliveries in the pool process: executed one after the other, those without effects recorded in one commit.

An execution that comes before its claim may turn out to be the second one of its key. It has done nothing that stays,
so it is thrown away, and the delivery takes the way of all others, as does whatever does not simply succeed. Database
effects are claimed before: `worker.whole`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery.utils.log import get_logger
from tenacity import Retrying, retry_if_exception, wait_random_exponential

from reliable_tasks import failpoints
from reliable_tasks.model.envelope import CORRELATION_ID
from reliable_tasks.model.retry import Effects
from reliable_tasks.model.states import TaskState
from reliable_tasks.store import batches, outbox
from reliable_tasks.store.engine import begin, is_lock_timeout, waiting_at_most, will_pass
from reliable_tasks.worker.call import Call, Delivery, delivery_of
from reliable_tasks.worker.chording import count_ends
from reliable_tasks.worker.execution import execute
from reliable_tasks.worker.first import FIRST, Ahead, usual_call
from reliable_tasks.worker.options import TaskOptions
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.running import running_app
from reliable_tasks.worker.runtime import Runtime
from reliable_tasks.worker.steps import LOCK_WAIT_SECONDS
from reliable_tasks.worker.trace import settlement_of
from reliable_tasks.worker.unit import UnitOfWork
from reliable_tasks.worker.whole import Whole

logger = get_logger("reliable_tasks.worker")

BUDGET_SECONDS = 0.05
"""How long executions go on before those that have ended are recorded."""


class NothingStays:
    """The steps of an execution without effects and without a claim: there is nothing to undo."""

    one_transaction = True

    def heartbeat(self) -> AbstractContextManager[None]:
        return nullcontext()

    def work(self) -> AbstractContextManager[None]:
        return nullcontext()

    def undo(self) -> None:
        return None


def trace_together(given: Sequence[tuple[Any, ...]]) -> list[str | None]:
    """Process usual deliveries, each given as to `trace`; the answer is a settlement for each.

    None for what was not begun: nobody waits longer for the others than BUDGET_SECONDS and one task.
    """
    app = running_app()
    tasks = app.tasks  # once: Celery takes a lock to look it up
    end = time.monotonic() + BUDGET_SECONDS
    settled: dict[int, Settlement | None] = {}
    begun: list[tuple[int, Delivery, Ahead | None]] = []
    with Whole(app) as whole:
        for places in _groups(tasks, given):
            if (begun or settled) and time.monotonic() > end:
                break
            app.set_current()  # the one before may have made another application
            deliveries = [delivery_of(app, *given[place]) for place in places]
            if len(places) > 1:
                settled.update(zip(places, whole.settle_together(deliveries, end), strict=True))
            elif _options(tasks, given[places[0]]).effects is Effects.DATABASE:
                settled[places[0]] = whole.settle(deliveries[0])
            else:
                begun.append(
                    (places[0], deliveries[0], _ahead(app, deliveries[0], tasks[deliveries[0].task_name]))
                )
    # by identity: what comes under the id of another may say something else
    recorded = {id(one) for one in _recorded(app.runtime, [one for _, _, one in begun if one is not None])}
    for place, delivery, ahead in begun:
        settled[place] = Settlement.ACK if id(ahead) in recorded else settlement_of(app, delivery, ahead)
    told = (settled.get(place) for place in range(len(given)))
    return [one and one.value for one in told]


def _options(tasks: Any, one: tuple[Any, ...]) -> TaskOptions:
    options: TaskOptions = tasks[one[0]].reliable_options
    return options


def _groups(tasks: Any, given: Sequence[tuple[Any, ...]]) -> list[list[int]]:
    """The places of those that share a transaction, which most do not: as many of a task as it is declared for."""
    groups: list[list[int]] = []
    open_ones: dict[str, list[int]] = {}
    for place, one in enumerate(given):
        group = open_ones.get(one[0])
        if group is None or len(group) == _options(tasks, one).batch:
            group = open_ones[one[0]] = []
            groups.append(group)
        group.append(place)
    return groups


def _ahead(app: Any, delivery: Delivery, task: Any) -> Ahead | None:
    """The execution of a call that nothing follows; None when it is for `trace` to say what becomes of it."""
    call = usual_call(app, delivery, part=True, task=task)
    try:
        return Ahead(call, execute(NothingStays(), call, FIRST)) if call is not None else None
    except Exception:
        return None  # whatever it is: by itself it meets the same again, and only that


def _recorded(runtime: Runtime, ahead: Sequence[Ahead]) -> list[Ahead]:
    """Those whose rows are committed now."""
    chosen = list(_once_each(ahead))
    if not chosen:
        return []
    for attempt in Retrying(
        retry=retry_if_exception(will_pass), wait=wait_random_exponential(0.2, 10), reraise=True
    ):
        with attempt:
            try:
                return _record(runtime, chosen)
            except Exception as error:
                if will_pass(error) and not is_lock_timeout(error):
                    raise
                # another execution holds one of the keys, or one of the rows is not taken: each by itself
                logger.warning(
                    "%d results could not be recorded together: %s", len(chosen), type(error).__name__
                )
    return []


def _record(runtime: Runtime, chosen: Sequence[Ahead]) -> list[Ahead]:
    with begin(runtime.engine) as connection:
        with waiting_at_most(connection, LOCK_WAIT_SECONDS):
            ids = batches.record(connection, [one.row() for one in chosen])
        if ids is None:
            connection.rollback()
            return []
        recorded = [one for one in chosen if one.call.task_id in ids]
        for one in recorded:
            outbox.add(connection, one.outcome.unit.messages)
        _count_parts(connection, recorded)
        if failpoints.ACTIVE:
            failpoints.reach("worker.before_commit", connection.connection)
    if failpoints.ACTIVE:
        failpoints.reach("worker.after_commit_before_ack")
    return recorded


def _count_parts(connection: Any, recorded: Sequence[Ahead]) -> None:
    """Count those that are parts of chords: each chord once for all of them, and in one order everywhere."""
    parts: dict[str, list[Call]] = {}
    for one in recorded:
        if one.call.embed.get("chord"):
            parts.setdefault(one.call.delivery.request.get("group") or "", []).append(one.call)
    for group_id, calls in sorted(parts.items()):
        unit = UnitOfWork(correlation_id=calls[0].delivery.request.get(CORRELATION_ID))
        unit.bodies[group_id] = calls[0].embed["chord"]
        ended = {call.task_id: TaskState.SUCCEEDED for call in calls}
        count_ends(connection, calls[0].task.app, unit, ended)


def _once_each(ahead: Sequence[Ahead]) -> Iterator[Ahead]:
    """Of each key, and of each task id, the first that has simply succeeded."""
    keys: set[tuple[str, str | None]] = set()
    ids: set[str] = set()
    for one in ahead:
        place = (one.call.task.name, one.call.key)
        if one.simple and place not in keys and one.call.task_id not in ids:
            keys.add(place)
            ids.add(one.call.task_id)
            yield one
