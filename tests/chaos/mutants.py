"""Twelve seeded bugs, each one of the mistakes that this product exists to avoid: what a blind checker would let pass.

The tests' application loads them into the processes of a run when an environment variable names one. The twelfth,
dead-lettering at most once, is a mistake in the broker's shape and made by its scenario.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from amqp.spec import Basic

from reliable_tasks.broker import wire
from reliable_tasks.broker.publisher import Publisher, _refused
from reliable_tasks.errors import PublishUnconfirmed
from reliable_tasks.services.relay import WINDOW, Relay
from reliable_tasks.store import attempts, claims, clock, outbox, results
from reliable_tasks.store.engine import begin
from reliable_tasks.store.verdicts import ClaimRequest, Owned
from reliable_tasks.worker import publishing, recording, strategy, trace
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.request import ReliableRequest
from reliable_tasks.worker.unit import current_unit

MUTANT = "CHAOS_MUTANT"
"""Environment variable: the mutant's name; none is the product itself."""


def _the_long_way() -> None:
    """No delivery is usual: each is claimed, executed and recorded by itself, where these bugs are put."""
    strategy.can_be_usual = lambda _task: False


def ack_before_commit() -> None:
    """The broker is told when the pool process begins, as Celery does by default."""
    _the_long_way()
    accepted = ReliableRequest.on_accepted

    def on_accepted(self: Any, pid: int, time_accepted: float) -> None:
        accepted(self, pid, time_accepted)
        self._answer(Settlement.ACK)

    ReliableRequest.on_accepted = on_accepted


def no_unique_claim() -> None:
    """Nobody asks whether the key was executed before."""
    claims.take = lambda _connection, _request: Owned(1, 1, may_have_acted=False, takeover=False)
    claims.finish = lambda *_args, **_kwargs: True


def no_fence() -> None:
    """An execution records its end though another one has taken over."""
    finish = claims.finish
    claims.finish = lambda *args, **kwargs: finish(*args, **kwargs) or True


def takeover_by_the_workers_clock() -> None:
    """Whether a lease has ended is read from the clock of the machine that would like it to have ended."""
    take = claims.take

    def take_soon(connection: Any, request: ClaimRequest) -> Any:
        found = claims.get(connection, request.task_name, request.key)
        # the module's own, which a test can put off; `record_time` would correct it
        if found and found["state"] == "running" and found["lease_until"] < clock.datetime.now(UTC):
            connection.execute(
                claims.claims.update()
                .where(claims.claims.c.task_name == request.task_name, claims.claims.c.key == request.key)
                .values(lease_until=datetime(2000, 1, 1, tzinfo=UTC))
            )
        return take(connection, request)

    claims.take = take_soon


def relay_deletes_before_the_confirm() -> None:
    """The outbox row goes before the broker has said that it has the message."""

    def run_once(self: Relay) -> int:
        if not self._leadership.held():
            return 0
        with begin(self._engine) as connection:
            due = outbox.due(connection, WINDOW)
            outbox.remove(connection, [row_id for row_id, _message in due])
        return len(self._publisher.publish_all([message for _row_id, message in due])) if due else 0

    Relay.run_once = run_once  # type: ignore[method-assign]


def not_mandatory() -> None:
    """A message that reaches no queue is confirmed, and gone."""
    wire.MANDATORY = 0


def any_confirm() -> None:
    """py-amqp's own way: whatever ack comes next is the confirm of this message, and a channel is kept after doubt."""

    def publish_all(self: Any, messages: Any) -> list[Any]:
        self._line = self._line or self._new_line()
        return [publish(self, self._line, message) for message in messages]

    def publish(self: Any, line: Any, message: Any) -> Any:
        answers: list[Any] = []
        with suppress(TimeoutError):
            line._connection.drain_events(timeout=0)  # one word of the broker, which says nothing to anybody
        line.write(line.wire.published(message, self._route(message, line.capabilities)))
        try:
            line._connection.channels[line.wire._channel_id].wait(
                [Basic.Ack, Basic.Nack],
                callback=lambda method, *_rest: answers.append(method),
                timeout=self._deadline_seconds,
            )
        except TimeoutError as error:
            return PublishUnconfirmed(str(error))
        return None if answers == [Basic.Ack] else _refused(message, ValueError("nacked"))

    Publisher.publish_all = publish_all  # type: ignore[method-assign]


def retry_from_the_body() -> None:
    """The next attempt is published while this one is not recorded yet."""
    _publish_at_once(lambda message, unit: message.task_id in unit.task_ids)


def continuation_before_the_commit() -> None:
    """What a task sends is published at once, whatever becomes of the task."""
    _publish_at_once(lambda message, unit: message.task_id not in unit.task_ids)


def _publish_at_once(chosen: Callable[[Any, Any], bool]) -> None:
    sink_of = publishing.Sender._sink

    def sink(self: Any) -> Any:
        unit = current_unit.get()
        if unit is None:
            return sink_of(self)

        def put(message: Any) -> None:
            if chosen(message, unit):
                self._runtime.send_now_or_when_due(replace(message, due_at=None, delay=None))
            else:
                unit.messages.append(message)

        return put

    publishing.Sender._sink = sink  # type: ignore[method-assign]


def attempt_in_a_second_transaction() -> None:
    """The history is written after the effect is committed."""
    later = _after_the_commit()
    recording.attempts = SimpleNamespace(
        add=lambda _connection, values: later.append(lambda connection: attempts.add(connection, values)),
        suppress=attempts.suppress,
    )


def result_outside_the_transaction() -> None:
    """The result is written after the effect is committed."""
    later = _after_the_commit()

    def store(_connection: Any, *values: Any) -> bool:
        later.append(lambda connection: results.store(connection, *values))
        return True

    recording.results = SimpleNamespace(**{**vars(results), "store": store})


def _after_the_commit() -> list[Callable[[Any], Any]]:
    """What is put into the list while a delivery is processed is done when it is committed, if it can be."""
    _the_long_way()
    later: list[Callable[[Any], Any]] = []
    process = trace.process

    def process_then(runtime: Any, task: Any, delivery: Any, ahead: Any = None) -> Any:
        later.clear()
        settlement = process(runtime, task, delivery, ahead)
        with suppress(Exception), begin(runtime.engine) as connection:
            for write in later:
                write(connection)
        return settlement

    trace.process = process_then
    return later


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        ack_before_commit,
        no_unique_claim,
        no_fence,
        takeover_by_the_workers_clock,
        relay_deletes_before_the_confirm,
        not_mandatory,
        any_confirm,
        retry_from_the_body,
        continuation_before_the_commit,
        attempt_in_a_second_transaction,
        result_outside_the_transaction,
    )
}


def install() -> None:
    """Make this process a mutant, when the environment says so."""
    name = os.environ.get(MUTANT)
    if name:
        MUTANTS[name]()
