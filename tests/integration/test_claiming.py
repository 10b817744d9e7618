"""Claims of one key by two connections at the same moment."""

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from reliable_tasks.store import claims
from reliable_tasks.store.engine import begin
from reliable_tasks.store.verdicts import ClaimRequest, Owned
from tests.waiting import wait_until


def request(task_id: str, lease_seconds: float = 60) -> ClaimRequest:
    return ClaimRequest("tell", "k", b"f", task_id, uuid4(), timedelta(seconds=lease_seconds), may_act=True)


class Second(threading.Thread):
    """Another execution that claims the key."""

    def __init__(self, engine: Any) -> None:
        super().__init__()
        self.engine = engine
        self.found: list[Any] = []

    def run(self) -> None:
        with begin(self.engine) as connection:
            self.found.append(claims.take(connection, request("second")))


def waiting(engine: Any) -> bool:
    with begin(engine) as connection:
        query = text("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')")
        mine = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.execute(query).first()) and connection.execute(mine).scalar_one() > 0


def test_doubt_that_came_while_a_claim_waited_is_seen(engine: Any) -> None:
    second = Second(engine)
    with begin(engine) as connection:
        mine = request("first")
        owned = claims.take(connection, mine)
        assert isinstance(owned, Owned)
        assert not owned.may_have_acted
        second.start()
        wait_until(lambda: waiting(engine), "the second claim waits", 10)
        assert claims.finish(connection, mine, owned.fence, "retry_wait", may_have_acted=True)
    second.join(10)
    (verdict,) = second.found
    assert isinstance(verdict, Owned)
    assert verdict.may_have_acted


def test_an_execution_that_ends_while_another_claims_is_no_lost_attempt_and_leaves_no_doubt(
    engine: Any,
) -> None:
    mine = request("first")
    with begin(engine) as connection:
        owned = claims.take(connection, mine)
        assert isinstance(owned, Owned)
    second = Second(engine)
    with begin(engine) as connection:
        assert claims.finish(connection, mine, owned.fence, "retry_wait", may_have_acted=False)
        second.start()
        # it has looked, and seen the first one running
        wait_until(lambda: waiting(engine), "the second claim waits", 10)
    second.join(10)
    assert second.found == [Owned(fence=2, attempt=2, may_have_acted=False, takeover=False)]


def test_an_execution_whose_lease_was_over_before_its_claim_was_seen_is_a_lost_attempt(engine: Any) -> None:
    second = Second(engine)
    with begin(engine) as connection:
        assert isinstance(claims.take(connection, request("first", lease_seconds=0.01)), Owned)
        second.start()
        # it has looked, and seen no claim
        wait_until(lambda: waiting(engine), "the second claim waits", 10)
        over = text("SELECT lease_until < clock_timestamp() FROM reliable_tasks.claims")
        wait_until(lambda: connection.execute(over).scalar_one(), "the lease is over", 10)
    second.join(10)
    assert second.found == [Owned(fence=2, attempt=2, may_have_acted=True, takeover=True)]
