"""The dead-letter collector: drains the dead-letter queues into Postgres, acks after the commit."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from reliable_tasks import failpoints
from reliable_tasks.broker.dead_letter_source import DeadLetterSource, DeadMessage
from reliable_tasks.errors import MessageRefused, Undecodable
from reliable_tasks.model.envelope import PUT_BACK, Message, put_backs, replay_number, without_history
from reliable_tasks.model.headers import check_headers, is_name
from reliable_tasks.model.signing import NOT_SIGNING, CameBy, Signer, unverified_id
from reliable_tasks.model.states import ENDS, DeadLetterState, TaskState
from reliable_tasks.model.storable import storable, storable_json
from reliable_tasks.store import attempts, chords, dead_letters, outbox, results
from reliable_tasks.store.engine import begin, database_now, is_unstorable
from reliable_tasks.store.identity import new_id

log = structlog.get_logger("reliable_tasks.collector")

BATCH = 100
PUT_BACKS = 3
"""After as many it is the message that ends the workers, before they can say so."""


class Collector:
    """The only reader of the dead-letter queues, and the only source of what no worker has seen.

    Args:
        knows_task: whether this deployment has a task of that name.
        queue_of: the declared queue that a physical queue belongs to, and the level that this queue or the
            priority of its message means.
        signer: says whether a message is one of ours.
    """

    name = "collector"
    idle_seconds = 0.5  # nobody waits for a dead letter, and each look is a command to every queue's log
    batch = BATCH

    def __init__(
        self,
        engine: Any,
        source: DeadLetterSource,
        knows_task: Callable[[str], bool],
        queue_of: Callable[[str, int | None], tuple[str, int | None]],
        signer: Signer = NOT_SIGNING,
    ) -> None:
        self._engine = engine
        self._source = source
        self._knows_task = knows_task
        self._queue_of = queue_of
        self._signer = signer

    def run_once(self) -> int:
        """Collect up to a batch; returns how many dead letters were taken in."""
        found = self._source.take(BATCH)
        if not found:
            return 0
        try:
            if failpoints.ACTIVE:
                failpoints.reach("collector.after_fetch")
            with begin(self._engine) as connection:
                for message in found:
                    self._keep_somehow(connection, message)
                if failpoints.ACTIVE:
                    failpoints.reach("collector.before_commit", connection.connection)
            if failpoints.ACTIVE:
                failpoints.reach("collector.after_commit_before_ack")
        except BaseException:
            # given back, or the ack of the next batch would cover this one as well
            self._source.close()
            raise
        # acked before the commit, a crash between would lose what no worker has recorded
        self._source.ack()
        return len(found)

    def close(self) -> None:
        self._source.close()

    def _keep_somehow(self, connection: Any, message: DeadMessage) -> None:
        """Keep it; when Postgres cannot hold its headers, keep its bytes: one such must not hold up the others."""
        try:
            with connection.begin_nested():
                self._keep(connection, message)
        except Exception as error:
            if not is_unstorable(error):
                raise
            log.warning("kept_without_headers", queue=message.queue, error=type(error).__name__)
            self._keep(connection, replace(message, headers={}, properties={}, routing_key="", exchange=""))

    def _keep(self, connection: Any, message: DeadMessage) -> None:
        try:
            self._signer.verify(*_signed(message, *self._where(message)))
        except MessageRefused as refusal:
            self._keep_unverified(connection, message, refusal)
            return
        reason, why = classify(message, self._knows_task)
        given = message.headers.get("id")
        task_id = str(given) if is_name(given) else f"unidentified-{new_id()}"
        task_name = _text(message.headers.get("task"))
        queue, level = self._where(message)
        put_back = put_backs(message.headers)
        if reason == "delivery_limit" and put_back < PUT_BACKS and not attempts.of_task(connection, task_id):
            # nobody has tried it: it died with the workers that held it, so it goes back
            log.warning("put_back", task_id=task_id, queue=queue)
            again = _again(message, task_id, queue, level).with_headers(**{PUT_BACK: put_back + 1})
            outbox.add(connection, [self._signer.sign_again(again, datetime.now(UTC))])
            return
        replay = replay_number(message.headers)
        stored = results.get(connection, task_id)
        if reason == "expired" and stored is not None and TaskState(stored["state"]) in ENDS:
            return  # a spare copy of a task that has ended meanwhile
        new = dead_letters.add(
            connection,
            {
                **_row(message, queue, level),
                "task_id": task_id,
                "replay": replay,
                "reason": reason,
                "exception_type": type(why).__name__ if why else None,
                "exception_message": storable(str(why)) if why else None,
            },
            collected=True,
        )
        if not new:
            return  # the worker has recorded it, and an operator may have replayed it since
        dead_letters.close_replay(connection, task_id, DeadLetterState.DEAD_AGAIN, replay)
        now = database_now(connection)
        started = stored["started_at"] if stored else None
        ended = {
            "name": task_name,
            "queue": queue,
            "reason": reason,
            "replay": replay,
            # a worker's clock may be ahead of the database's
            "finished_at": max(now, started) if started else now,
        }
        if results.store(connection, task_id, TaskState.DEAD, ended):
            chords.note_state(connection, task_id, TaskState.DEAD)

    def _where(self, message: DeadMessage) -> tuple[str, int | None]:
        return self._queue_of(message.queue, message.properties.get("priority"))

    def _keep_unverified(self, connection: Any, message: DeadMessage, refusal: MessageRefused) -> None:
        """Under a name of its own, and without a word about the task that it claims to be."""
        queue, level = self._where(message)
        dead_letters.add(
            connection,
            {
                **_row(message, queue, level),
                "task_id": unverified_id(_again(message, "", queue, level)),
                "replay": 0,
                "reason": refusal.reason,
                "exception_type": type(refusal).__name__,
                "exception_message": storable(str(refusal)),
            },
            collected=True,
        )


def classify(message: DeadMessage, knows_task: Callable[[str], bool]) -> tuple[str, Undecodable | None]:
    """Why a message is dead that no worker has explained: the reason code, and what a worker will have said."""
    if message.death_reason != "rejected":
        return message.death_reason, None
    try:
        check_headers(message.headers)
    except Undecodable as why:
        return why.reason, why
    return ("rejected" if knows_task(message.headers["task"]) else "unknown_task"), None


def _row(message: DeadMessage, queue: str, level: int | None) -> dict[str, Any]:
    """The columns that keep the message itself."""
    headers = without_history(message.headers)
    return {
        "task_name": _text(message.headers.get("task")),
        "queue": queue,
        "exchange": storable(message.exchange),
        "routing_key": storable(message.routing_key),
        "body": message.body,
        "headers": storable_json(headers),
        "properties": storable_json({**message.properties, "priority": level}),
    }


def _signed(message: DeadMessage, queue: str, level: int | None) -> tuple[Message, CameBy]:
    """What its sender has signed."""
    task_id = str(message.headers.get("id"))
    return _again(message, task_id, queue, level), CameBy(message.exchange, message.routing_key)


def _text(value: Any) -> str | None:
    return storable(value) if isinstance(value, str) else None


def _again(message: DeadMessage, task_id: str, queue: str, level: int | None) -> Message:
    return Message(
        task_id=task_id,
        task_name=str(message.headers.get("task")),
        exchange="",
        routing_key="",
        queue=queue,
        body=message.body,
        headers=without_history(message.headers),
        properties={name: value for name, value in message.properties.items() if name != "priority"},
        priority=level,
    )
