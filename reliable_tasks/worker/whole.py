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
from reliable_tasks.store.whole import First, WholeTasks
from reliable_tasks.worker.call import Call, Delivery
from reliable_tasks.worker.execution import execute
from reliable_tasks.worker.first import FIRST, Ahead, usual_call
from reliable_tasks.worker.function_session import function_session
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.trace import settlement_of

logger = get_logger("reliable_tasks.worker")


class Effect:
    """The steps of an execution whose transaction somebody else begins and ends.

    Args:
        connection: SQLAlchemy's, in the transaction.
    """

    one_transaction = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.undone = False

    def heartbeat(self) -> AbstractContextManager[None]:
        return nullcontext()

    def session(self) -> AbstractContextManager[Any]:
        return function_session(self._connection, self.undo)

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
                ahead, good = self._run(call, among=False)
                if good:
                    self._tasks.commit()
                    return Settlement.ACK
            except Exception as error:
                # whatever it is: by itself it meets the same again, and is answered for it
                logger.warning("Task %s takes the long way: %s", call.task_id, type(error).__name__)
                ahead = None
            self._tasks.roll_back()
        return settlement_of(self._app, delivery, ahead)

    def settle_together(self, deliveries: Sequence[Delivery], end: float) -> list[Settlement | None]:
        """The same for several in one transaction; what does not simply succeed is done again, each by itself.

        Args:
            end: by the monotonic clock, when no more is begun, for which the answer is None.
        """
        kept: list[int] = []
        begun = 0
        for place, delivery in enumerate(deliveries):
            if place and time.monotonic() > end:
                break
            begun += 1
            call = usual_call(self._app, delivery)
            try:
                if call is not None and self._run(call, among=True)[1]:
                    kept.append(place)
            except Exception as error:
                self._give_up(kept, error)
        done = self._committed(kept)
        return [
            (Settlement.ACK if place in done else self.settle(delivery)) if place < begun else None
            for place, delivery in enumerate(deliveries)
        ]

    def _run(self, call: Call, *, among: bool) -> tuple[Ahead | None, bool]:
        """Claim and execute: whether to commit it, or else what is to be recorded of it without executing it again."""
        self._app.set_current()  # the one before may have made another application
        first = First(call.task_id, call.task.name, call.key or "", call.fingerprint)
        if not self._tasks.claim(first, among=among):
            return None, False
        with self._tasks.lent() as connection:
            effect = Effect(connection)
            ahead = Ahead(call, execute(effect, call, FIRST))
        if ahead.simple and not effect.undone and not (among and self._tasks.waited_in_vain):
            self._tasks.keep(first, ahead.outcome.values, ahead.outcome.unit.messages)
            return ahead, True
        failure = ahead.outcome.unit.failure
        ended_it = not self._tasks.is_open or (failure is not None and transaction_is_gone(failure))
        if among:
            self._tasks.undo()
        return (ahead if effect.undone and not ended_it and not ahead.simple else None), False

    def _committed(self, kept: list[int]) -> list[int]:
        try:
            if kept:
                self._tasks.commit()
        except Exception as error:
            self._give_up(kept, error)
        self._tasks.roll_back()
        return kept

    def _give_up(self, kept: list[int], error: Exception) -> None:
        """The transaction that several share is lost, whoever has ended it."""
        logger.warning("%d tasks could not be done together: %s", len(kept) + 1, type(error).__name__)
        kept.clear()
        self._tasks.roll_back()
