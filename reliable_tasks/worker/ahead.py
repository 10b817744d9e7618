"""Usual deliveries in the pool process: executed one after the other, recorded in one commit.

An execution that comes before its claim may turn out to be the second one of its key. It has done nothing that stays,
so it is thrown away, and the delivery takes the way of all others, as does whatever does not simply succeed.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from celery.utils.log import get_logger
from tenacity import Retrying, retry_if_exception, wait_random_exponential

from reliable_tasks import failpoints
from reliable_tasks.model.envelope import CORRELATION_ID
from reliable_tasks.model.states import TaskState
from reliable_tasks.store import batches, outbox
from reliable_tasks.store.engine import begin, is_lock_timeout, waiting_at_most, will_pass
from reliable_tasks.store.verdicts import Owned
from reliable_tasks.worker.call import Call, Delivery, decode, delivery_of, verify
from reliable_tasks.worker.chording import count_ends
from reliable_tasks.worker.execution import execute
from reliable_tasks.worker.outcome import Outcome, Settlement
from reliable_tasks.worker.plain import follows
from reliable_tasks.worker.running import running_app
from reliable_tasks.worker.runtime import Runtime
from reliable_tasks.worker.steps import LOCK_WAIT_SECONDS
from reliable_tasks.worker.trace import settlement_of
from reliable_tasks.worker.unit import UnitOfWork

logger = get_logger("reliable_tasks.worker")

BUDGET_SECONDS = 0.05
"""How long executions go on before those that have ended are recorded."""

FIRST = Owned(fence=1, attempt=1, may_have_acted=False, takeover=False)
"""What a key that nobody knows would be given."""


@dataclass(frozen=True)
class Ahead:
    """An execution whose claim is still to be taken."""

    call: Call
    outcome: Outcome

    def fits(self, verdict: Owned) -> bool:
        """Whether this is what the owner of that claim would have done."""
        return verdict == FIRST

    @property
    def simple(self) -> bool:
        """Whether it has succeeded, and said nothing of other tasks."""
        ids = {stored.task_id for stored in self.outcome.unit.results}
        return self.outcome.state is TaskState.SUCCEEDED and ids <= {self.call.task_id}

    def row(self) -> dict[str, Any]:
        """What `batches.record` wants."""
        return {
            **self.outcome.values,
            "task_id": self.call.task_id,
            "fingerprint": self.call.fingerprint,
        }


class NothingStays:
    """The steps of an execution without effects and without a claim: there is nothing to undo."""

    one_transaction = True

    def heartbeat(self) -> AbstractContextManager[None]:
        return nullcontext()

    def session(self) -> AbstractContextManager[None]:
        return nullcontext()

    def undo(self) -> None:
        return None


def trace_together(given: Sequence[tuple[Any, ...]]) -> list[str | None]:
    """Process usual deliveries, each given as to `trace`; the answer is a settlement for each.

    None for what was not begun: nobody waits longer for the others than BUDGET_SECONDS and one task.
    """
    app = running_app()
    end = time.monotonic() + BUDGET_SECONDS
    begun: list[tuple[Delivery, Ahead | None]] = []
    for one in given:
        if begun and time.monotonic() > end:
            break
        app.set_current()  # the one before may have made another application
        delivery = delivery_of(app, *one)
        begun.append((delivery, _ahead(app, delivery)))
    # by identity: what comes under the id of another may say something else
    recorded = {
        id(one) for one in _recorded(app.runtime, [one for _delivery, one in begun if one is not None])
    }
    settlements = [
        Settlement.ACK if id(ahead) in recorded else settlement_of(app, delivery, ahead)
        for delivery, ahead in begun
    ]
    return [one.value for one in settlements] + [None] * (len(given) - len(begun))


def _ahead(app: Any, delivery: Delivery) -> Ahead | None:
    """The execution of a call that nothing follows; None when it is for `trace` to say what becomes of it."""
    try:
        verify(app.runtime, delivery)
        call = decode(delivery, app.tasks[delivery.task_name])
        return None if follows(call) else Ahead(call, execute(NothingStays(), call, FIRST))
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
