"""When a run has come to rest: everything accepted has ended, and nothing waits anywhere."""

import threading
import time
from contextlib import closing
from typing import Any

import pika
import sqlalchemy
from pika.exceptions import AMQPError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.broker_faults import of_all_nodes
from tests.chaos.history import History
from tests.integration.applied_topology import TOPOLOGY

POLL_SECONDS = 0.2
CALM_SECONDS = 0.6

_COUNTS = """
SELECT (SELECT count(*) FROM reliable_tasks.outbox) AS outbox,
       (SELECT count(*) FROM reliable_tasks.results WHERE state IN ('enqueued', 'running', 'retry_wait')) AS waiting,
       (SELECT count(*) FROM reliable_tasks.claims WHERE state = 'running') AS running,
       (SELECT count(*) FROM reliable_tasks.dead_letters WHERE collected_at IS NULL) AS uncollected,
       (SELECT count(*) FROM reliable_tasks.dead_letters WHERE state = 'replaying') AS replaying
"""
_CHANGES = """
SELECT (SELECT count(*) FROM reliable_tasks.results WHERE finished_at IS NOT NULL) AS ended,
       (SELECT max(id) FROM reliable_tasks.attempts) AS attempts,
       (SELECT max(id) FROM reliable_tasks.suppressed_deliveries) AS suppressed,
       (SELECT max(id) FROM reliable_tasks.dead_letters) AS dead_letters
"""
_SEEN = "SELECT task_id FROM reliable_tasks.results UNION SELECT task_id FROM reliable_tasks.dead_letters"


class Rest:
    """Looks until there is nothing left to do."""

    def __init__(self, engine: sqlalchemy.Engine, broker_url: str, history: History) -> None:
        self._engine = engine
        self._broker_url = broker_url
        lines = [line for line in history.lines() if line["op"] == "send"]
        # what has no id of its own is seen when its queue is empty
        nameless = {line["id"] for line in lines if line.get("mark") and not line.get("key")}
        self._accepted = {line["id"] for line in lines if line["phase"] == "ok"} - nameless
        self.last: dict[str, Any] = {}

    def wait(self, stalled_seconds: float, limit_seconds: float) -> bool:
        """True when it rests; False when nothing has changed for a while, or after the limit, and it does not."""
        never = threading.Event()
        begun = changed = time.monotonic()
        calm: float | None = None
        before: Any = None
        while True:
            found, changes = self._look()
            now = time.monotonic()
            if changes != before or found != self.last:
                before, changed = changes, now
            self.last = found
            if found and not any(found.values()):
                calm = calm or now
                if now - calm > CALM_SECONDS:
                    return True
            else:
                calm = None
            if now - changed > stalled_seconds or now - begun > limit_seconds:
                return False
            never.wait(POLL_SECONDS)

    def _look(self) -> tuple[dict[str, int], Any]:
        """What is left, by kind; empty when somebody does not answer. And what shows that something happens."""
        try:
            with self._engine.connect() as connection:
                found = dict(connection.execute(text(_COUNTS)).mappings().one())
                changes = dict(connection.execute(text(_CHANGES)).mappings().one())
                if not any(found.values()):
                    seen = set(connection.execute(text(_SEEN)).scalars())
                    found["unseen"] = len(self._accepted - seen)
            if not any(found.values()):
                found["queued"] = self._queued()
        except (SQLAlchemyError, AMQPError):
            return {}, None
        return found, changes

    def _queued(self) -> int:
        """Messages that are ready, asked of the queues themselves: the management API's numbers are old."""
        with closing(pika.BlockingConnection(of_all_nodes(self._broker_url))) as connection:
            names = [name for queue in TOPOLOGY.queues for name in (queue.name, queue.dead_letter.queue)]
            names += [f"{q.name}.p{level}" for q in TOPOLOGY.queues for level in range(1, q.levels)]
            return sum(self._count(connection, name) for name in names)

    @staticmethod
    def _count(connection: Any, name: str) -> int:
        channel = connection.channel()
        try:
            return int(channel.queue_declare(name, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker:
            return 0  # a level that this version of the broker has no queue for
