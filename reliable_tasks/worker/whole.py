"""Usual deliveries with a database effect: claimed by the transaction's first statement, recorded by its last.

Whatever does not simply succeed is rolled back, and takes the way of all other deliveries. An execution that has
failed by itself is not repeated for that: it has left no effect, so its end is recorded as it is.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from celery.utils.log import get_logger

from reliable_tasks.store.engine import transaction_is_gone
from reliable_tasks.store.lending import Lent
from reliable_tasks.store.whole import First, WholeTasks
from reliable_tasks.worker.call import Call, Delivery
from reliable_tasks.worker.execution import execute
from reliable_tasks.worker.first import FIRST, Ahead, usual_call
from reliable_tasks.worker.function_work import function_work
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.trace import settlement_of

logger = get_logger("reliable_tasks.worker")


class Effect:
    """The steps of an execution whose transaction somebody else begins and ends.

    Args:
        lent: the connection, in the transaction.
        engine: what it belongs to.
    """

    one_transaction = True

    def __init__(self, lent: Lent, engine: Any) -> None:
        self._lent = lent
        self._engine = engine
        self.undone = False

    def heartbeat(self) -> AbstractContextManager[None]:
        return nullcontext()

    def work(self) -> AbstractContextManager[Any]:
        return function_work(self._lent, lambda: self._lent.connect(self._engine), self.undo)

    def undo(self) -> None:
        """Take the function's effect back: with it goes the whole transaction."""
        self.undone = True


class Whole:
    """Processes such deliveries on one connection, which it has until its block ends."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._tasks = WholeTasks(app.runtime.engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._tasks.roll_back()

    def settle(self, delivery: Delivery) -> Settlement:
        """What the broker is told of a delivery, once its rows are committed."""
        call, ahead = usual_call(self._app, delivery), None
        if call is not None:
            try:
                if self._tasks.claim(_first(call)):
                    ahead, good = self._run(call)
                    if ahead is not None and good:
                        self._keep(ahead)
                        self._tasks.commit()
                        return Settlement.ACK
            except Exception as error:
                # whatever it is: by itself it meets the same again, and is answered for it
                logger.warning("Task %s takes the long way: %s", call.task_id, type(error).__name__)
                ahead = None
            self._tasks.roll_back()
        return settlement_of(self._app, delivery, ahead)

    def settle_together(self, deliveries: Sequence[Delivery], end: float) -> list[Settlement | None]:
        """The same for several of one task in one transaction; what does not simply succeed is done again by itself.

        Args:
            end: by the monotonic clock, when no more is begun, for which the answer is None.
        """
        calls = [usual_call(self._app, delivery) for delivery in deliveries]
        kept: list[int] = []
        begun = 1
        try:
            taken = self._claim(calls)
            for place, call in enumerate(calls):
                if place and time.monotonic() > end:
                    break
                begun = place + 1
                if call is not None and place in taken and self._run_among(call):
                    kept.append(place)
            if kept:
                self._tasks.commit()
        except Exception as error:
            # the transaction that they share is lost, whoever has ended it
            logger.warning("%d tasks could not be done together: %s", len(deliveries), type(error).__name__)
            kept = []
        self._tasks.roll_back()
        return [
            Settlement.ACK if place in kept else self._settle_until(end, delivery, begun=place < begun)
            for place, delivery in enumerate(deliveries)
        ]

    def _settle_until(self, end: float, delivery: Delivery, *, begun: bool) -> Settlement | None:
        return self.settle(delivery) if begun or time.monotonic() <= end else None

    def _claim(self, calls: Sequence[Call | None]) -> set[int]:
        """The places of those that are the first of their key and id, here and everywhere."""
        places: dict[str, int] = {}
        firsts: dict[str, First] = {}
        for place, call in enumerate(calls):
            if call is not None and call.task_id not in places and call.key not in firsts:
                places[call.task_id] = place
                firsts[call.key or ""] = _first(call)
        taken = self._tasks.claim_together(list(firsts.values())) if firsts else set()
        return {places[task_id] for task_id in taken}

    def _run_among(self, call: Call) -> bool:
        """Whether it has simply succeeded; else its effect is taken back."""
        ahead, good = self._run(call)
        if ahead is not None and good and self._tasks.is_in_order and not self._tasks.waited_in_vain:
            self._keep(ahead)
            return True
        self._tasks.undo()
        return False

    def _run(self, call: Call) -> tuple[Ahead | None, bool]:
        """Execute: whether to commit it, or else what is to be recorded of it without executing it again."""
        self._app.set_current()  # the one before may have made another application
        with self._tasks.lent() as lent:
            effect = Effect(lent, self._app.runtime.engine)
            ahead = Ahead(call, execute(effect, call, FIRST))
        if ahead.simple and not effect.undone:
            return ahead, True
        failure = ahead.outcome.unit.failure
        ended_it = not self._tasks.is_open or (failure is not None and transaction_is_gone(failure))
        return (ahead if effect.undone and not ended_it and not ahead.simple else None), False

    def _keep(self, ahead: Ahead) -> None:
        self._tasks.keep(_first(ahead.call), ahead.outcome.values, ahead.outcome.unit.messages)


def _first(call: Call) -> First:
    return First(call.task_id, call.task.name, call.key or "", call.fingerprint)
