"""The sweeper: sends again what nobody else will, since its execution is gone and so is its message.

A worker that dies gives its messages back, and the broker delivers them again: that is not for the sweeper. But a
message can be gone, too, by a purged queue, a broker whose disk was lost, or a person's ack; then only the claim
knows that a call was begun. Sending once more is harmless where the message was only slow: it has the same task id,
and the claim lets one of both begin, which then finds the doubt that the lost execution has left.

It also forgets keys that are older than their retention, and keeps the watermark that says so.
"""

import time
from datetime import datetime, timedelta
from typing import Any

import structlog

from reliable_tasks.model.states import TaskState
from reliable_tasks.services.leading import Leadership
from reliable_tasks.store import actions, attempts, key_retention, leases, outbox, results
from reliable_tasks.store.engine import begin
from reliable_tasks.store.leadership import Lead
from reliable_tasks.store.leases import Lapse, TakenBack

log = structlog.get_logger("reliable_tasks.sweeper")

BATCH = 500

FORGET_SECONDS = 60.0
"""How often the watermark is moved, while there is little behind it."""


class Sweeper:
    """One active sweeper per database, by an advisory lock.

    Args:
        grace: how long a lease must have been seen over before its message is sent again; none sends never.
        retention: how long keys of ended tasks are kept; none keeps them for ever.
    """

    name = "sweeper"
    idle_seconds = 1.0
    batch = BATCH

    def __init__(self, engine: Any, grace: timedelta, retention: timedelta = timedelta(0)) -> None:
        self._engine = engine
        self._grace = grace
        self._retention = retention
        self._forget_at = 0.0
        self._leadership = Leadership(engine, Lead.SWEEPER)
        self._seen: dict[Lapse, datetime] = {}

    def run_once(self) -> int:
        """One pass; returns how many messages were sent again, or keys forgotten."""
        try:
            if not self._leadership.held():
                self._seen = {}
                return 0
            return max(self._sweep(), self._forget())
        except BaseException:
            # the database was away from the workers, too, who could not extend their leases: they get a new grace
            self._seen = {}
            raise

    def close(self) -> None:
        """Give the lead to the next sweeper."""
        self._leadership.give_up()

    def _sweep(self) -> int:
        if not self._grace:
            return 0
        with begin(self._engine) as connection:
            now, found = leases.lapsed(connection, BATCH)
        self._seen = {lapse: self._seen.get(lapse, now) for lapse in found}
        ripe = [lapse for lapse, since in self._seen.items() if now - since >= self._grace]
        return sum(self._send_again(lapse) for lapse in ripe)

    def _forget(self) -> int:
        if not self._retention or time.monotonic() < self._forget_at:
            return 0
        with begin(self._engine) as connection:
            forgotten = key_retention.forget(connection, self._retention, BATCH)
        if forgotten:
            log.info("keys_forgotten", count=forgotten)
        if forgotten < BATCH:
            self._forget_at = time.monotonic() + FORGET_SECONDS
        return forgotten

    def _send_again(self, lapse: Lapse) -> bool:
        with begin(self._engine) as connection:
            left = leases.take_back(connection, lapse)
            if left is None:
                return False
            _record(connection, lapse, left)
        log.warning(
            "sent_again",
            task_id=left.message.task_id,
            task=lapse.task_name,
            idempotency_key=lapse.key,
            lease_until=lapse.lease_until.isoformat(),
        )
        return True


def _record(connection: Any, lapse: Lapse, left: TakenBack) -> None:
    """Write what the lost execution cannot, and its message to the outbox, in the transaction that opens the claim."""
    task_id = left.message.task_id
    stored = results.standing(connection, task_id)
    attempts.add(
        connection,
        {
            "task_id": task_id,
            "name": lapse.task_name,
            "idempotency_key": lapse.key,
            "attempt": left.attempt,
            "replay": left.replay,
            "fence": left.fence,
            "state": "lost",
            "next_step": TaskState.RETRY_WAIT.value,
            "started_at": stored["started_at"] if stored else None,
        },
    )
    results.move(connection, task_id, TaskState.RETRY_WAIT, [TaskState.RUNNING])
    outbox.add(connection, [left.message])
    actions.record(
        connection,
        "sweeper",
        "task.sent_again",
        task_id,
        "its execution is gone, and nobody has delivered it again",
        key=lapse.key,
        fence=left.fence,
    )
