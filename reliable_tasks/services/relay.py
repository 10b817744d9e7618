"""The outbox relay: due rows to the broker in confirmed windows, deleted after the confirm."""

from typing import Any

import structlog

from reliable_tasks import failpoints
from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.services.leading import Leadership
from reliable_tasks.store import outbox
from reliable_tasks.store.engine import begin
from reliable_tasks.store.leadership import Lead
from reliable_tasks.store.standby import wait_at_commit

log = structlog.get_logger("reliable_tasks.relay")

WINDOW = 500


class Relay:
    """One active relay per shard, by an advisory lock that ends with its database session.

    A crash between the confirm and the delete sends a message twice, with the same task id: the claim absorbs it.
    In the other order a crash would lose it.
    """

    name = "relay"
    idle_seconds = 0.05
    batch = WINDOW

    def __init__(self, engine: Any, publisher: Publisher) -> None:
        self._engine = engine
        self._publisher = publisher
        self._leadership = Leadership(engine, Lead.RELAY)

    def run_once(self) -> int:
        """Relay one window; returns how many messages were confirmed, 0 also while another relay leads."""
        if not self._leadership.held():
            return 0
        with begin(self._engine) as connection:
            rows = outbox.due(connection, WINDOW)
            if rows:
                # else a failover could undo who has sent them, and not what is sent
                wait_at_commit(connection)
        if not rows:
            return 0
        if failpoints.ACTIVE:
            failpoints.reach("relay.after_select")
        outcomes = self._publisher.publish_all([message for _, message in rows])
        if failpoints.ACTIVE:
            failpoints.reach("relay.after_confirm")
        confirmed = [row_id for (row_id, _), error in zip(rows, outcomes, strict=True) if error is None]
        with begin(self._engine) as connection:
            outbox.remove(connection, confirmed)
            for (row_id, message), error in zip(rows, outcomes, strict=True):
                if error is not None:
                    log.warning(
                        "not_relayed", task_id=message.task_id, queue=message.queue, error=error.message
                    )
                    outbox.put_off(connection, row_id, error.message)
            if failpoints.ACTIVE:
                failpoints.reach("relay.before_mark", connection.connection)
        if failpoints.ACTIVE:
            failpoints.reach("relay.after_mark")
        return len(confirmed)

    def close(self) -> None:
        """Give the lead to the next relay."""
        self._leadership.give_up()
        self._publisher.close()
