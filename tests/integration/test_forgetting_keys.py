"""Keys that are forgotten: what was sent before is refused and never run as new."""

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from reliable_tasks.services.sweeper import Sweeper
from reliable_tasks.store import claims, key_retention
from reliable_tasks.store.engine import begin
from reliable_tasks.store.verdicts import BeyondRetention, ClaimRequest, Closed, Owned, Verdict
from tests.waiting import wait_until

DAY = timedelta(days=1)
NOW = datetime.now(UTC)


def request(key: str = "k", sent_at: datetime | None = NOW, task_id: str = "t") -> ClaimRequest:
    return ClaimRequest(
        "pay", key, b"f", task_id, uuid4(), timedelta(seconds=60), may_act=True, sent_at=sent_at
    )


def take(engine: Any, wanted: ClaimRequest) -> Verdict:
    with begin(engine) as connection:
        return claims.take(connection, wanted)


def ended(engine: Any, key: str, state: str, days_ago: int) -> None:
    """A key that was seen first so long ago, and has ended so."""
    wanted = request(key, NOW - DAY * days_ago)
    verdict = take(engine, wanted)
    assert isinstance(verdict, Owned)
    with begin(engine) as connection:
        claims.finish(connection, wanted, verdict.fence, state, may_have_acted=False)
        connection.execute(
            text("UPDATE reliable_tasks.claims SET first_seen = :at WHERE key = :key"),
            {"at": NOW - DAY * days_ago, "key": key},
        )


def forget(engine: Any, days: int, limit: int = 100) -> int:
    with begin(engine) as connection:
        return key_retention.forget(connection, DAY * days, limit)


def keys(engine: Any) -> set[str]:
    with begin(engine) as connection:
        return set(connection.execute(text("SELECT key FROM reliable_tasks.claims")).scalars())


@pytest.fixture
def pruned(engine: Any) -> Any:
    """A key that was done 40 days ago, and is forgotten after 30."""
    ended(engine, "k", "succeeded", 40)
    assert forget(engine, 30) == 1
    return engine


def test_a_message_from_before_the_watermark_does_not_run_as_new(pruned: Any) -> None:
    verdict = take(pruned, request(sent_at=NOW - DAY * 40))
    assert isinstance(verdict, BeyondRetention)
    assert keys(pruned) == set()  # nor is it there to be run by a replay
    assert isinstance(take(pruned, request(sent_at=NOW - DAY * 29)), Owned)


def test_a_message_that_died_with_its_worker_is_refused_all_the_same(pruned: Any) -> None:
    with begin(pruned) as connection:
        assert claims.count_crash(connection, request(sent_at=NOW - DAY * 40)) == 1
    assert isinstance(take(pruned, request(sent_at=NOW - DAY * 40)), BeyondRetention)


def test_a_message_that_does_not_say_when_it_was_sent_runs(pruned: Any) -> None:
    assert isinstance(take(pruned, request(sent_at=None)), Owned)


def test_only_what_has_ended_for_good_is_forgotten(engine: Any) -> None:
    for state in ("succeeded", "failed", "dead", "uncertain", "retry_wait"):
        ended(engine, state, state, 40)
    assert forget(engine, 30) == 2
    assert keys(engine) == {"dead", "uncertain", "retry_wait"}
    # an old message whose key is known is what it always was
    assert isinstance(take(engine, request("retry_wait", NOW - DAY * 40)), Owned)
    assert isinstance(take(engine, request("dead", NOW - DAY * 40)), Closed)


def test_the_watermark_never_goes_back(engine: Any) -> None:
    forget(engine, 30)
    with begin(engine) as connection:
        before = key_retention.watermark(connection)
    forget(engine, 60)
    with begin(engine) as connection:
        assert key_retention.watermark(connection) == before


def test_a_key_that_is_forgotten_while_it_is_claimed_is_not_run_again(engine: Any) -> None:
    """The claim waits for the transaction that forgets it, and then finds nothing."""
    ended(engine, "k", "dead", 40)
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.append(take(engine, request(sent_at=NOW - DAY * 40))))
    with begin(engine) as connection:
        connection.execute(text("UPDATE reliable_tasks.claims SET state = 'discarded'"))
        assert key_retention.forget(connection, DAY * 30, 10) == 1
        thread.start()
        mine = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

        def waits() -> bool:
            with begin(engine) as another:
                return bool(another.execute(text(mine)).scalar_one())

        wait_until(waits, "the claim waits", 10)
    thread.join(10)
    assert [type(verdict) for verdict in found] == [BeyondRetention]


def test_the_sweeper_forgets_all_that_is_old(engine: Any) -> None:
    for number in range(3):
        ended(engine, f"old{number}", "succeeded", 40)
    ended(engine, "new", "succeeded", 20)
    with closing(Sweeper(engine, timedelta(seconds=60), DAY * 30)) as sweeper:
        assert sweeper.run_once() == 3
    assert keys(engine) == {"new"}
