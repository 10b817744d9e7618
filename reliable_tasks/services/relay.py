"""The outbox relay: due rows to the broker in confirmed windows, deleted after the confirm."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import structlog

from reliable_tasks import failpoints
from reliable_tasks.broker.confirms import Outcomes
from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.errors import NotSent
from reliable_tasks.model.envelope import Message
from reliable_tasks.services.leading import Leadership
from reliable_tasks.store import outbox
from reliable_tasks.store.engine import begin
from reliable_tasks.store.leadership import Lead
from reliable_tasks.store.standby import wait_at_commit

log = structlog.get_logger("reliable_tasks.relay")

WINDOW = 500
"""Rows that are read at a time, in a transaction of their own."""

_MOST = 4 * WINDOW
"""Rows of one pass: as many may be sent twice when it dies. More are read while confirms come in."""

_SELDOM = 10
"""How much longer than it takes to look through the whole table, until it is done again."""


class Relay:
    """One active relay per shard, by an advisory lock that ends with its database session.

    A crash between the confirm and the delete sends messages twice, with the same task ids: the claim absorbs it.
    In the other order a crash would lose them.

    They are sent in the order of their due times, and those of one time as they were written: what was committed
    before another was written goes before it. Not so what the broker did not take, which is put off.

    Where a long transaction keeps Postgres from removing deleted rows, it goes on where it was, and looks only now and
    then for what was committed late and is due earlier.
    """

    name = "relay"
    idle_seconds = 0.05
    batch = _MOST

    def __init__(self, engine: Any, publisher: Publisher) -> None:
        self._engine = engine
        self._publisher = publisher
        self._leadership = Leadership(engine, Lead.RELAY)
        self._reached: outbox.Position | None = None
        self._whole_again_at = 0.0

    def run_once(self) -> int:
        """Relay what is due, up to a few windows; returns how many messages were confirmed, 0 while another leads."""
        if not self._leadership.held():
            return 0
        rows: list[tuple[int, Message]] = []
        # when this pass fails, its rows are there again, and the next one begins with them
        after, self._reached = self._reached, None
        outcomes = self._publisher.publish_all(self._due(rows, after))
        if rows:
            self._mark(rows, outcomes)
            row_id, last = rows[-1]
            # after a doubt there are rows that were not tried, and these are always the last
            after = (
                None if isinstance(outcomes[-1], NotSent) or last.due_at is None else (last.due_at, row_id)
            )
        self._reached = after
        return outcomes.count(None)

    def _mark(self, rows: list[tuple[int, Message]], outcomes: Outcomes) -> None:
        """Delete what is confirmed, and put off the rest."""
        if failpoints.ACTIVE:
            failpoints.reach("relay.after_confirm")
        confirmed = [row_id for (row_id, _), error in zip(rows, outcomes, strict=True) if error is None]
        with begin(self._engine) as connection:
            outbox.remove(connection, confirmed)
            for (row_id, message), error in zip(rows, outcomes, strict=True):
                if error is not None and not isinstance(error, NotSent):
                    log.warning(
                        "not_relayed", task_id=message.task_id, queue=message.queue, error=error.message
                    )
                    outbox.put_off(connection, row_id, error.message)
            if failpoints.ACTIVE:
                failpoints.reach("relay.before_mark", connection.connection)
        if failpoints.ACTIVE:
            failpoints.reach("relay.after_mark")

    def _due(self, rows: list[tuple[int, Message]], after: outbox.Position | None) -> Iterator[Message]:
        """The messages that are due, as the publisher asks for them; their rows are noted."""
        begun = monotonic()
        whole = after is None or begun >= self._whole_again_at
        page = self._page(None if whole else after)
        if whole:
            self._whole_again_at = begun + (1 + _SELDOM) * (monotonic() - begun)
        if failpoints.ACTIVE and page:
            failpoints.reach("relay.after_select")
        while page:
            rows += page
            yield from (message for _, message in page)
            if len(page) < WINDOW or len(rows) >= _MOST:
                return
            row_id, last = page[-1]
            assert last.due_at is not None, "every row has one"
            page = self._page((last.due_at, row_id))

    def _page(self, after: outbox.Position | None) -> list[tuple[int, Message]]:
        with begin(self._engine) as connection:
            page = outbox.due(connection, WINDOW, after)
            if page:
                # else a failover could undo who has sent them, and not what is sent
                wait_at_commit(connection)
        return page

    def close(self) -> None:
        """Give the lead to the next relay."""
        self._leadership.give_up()
        self._publisher.close()
