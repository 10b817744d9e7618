"""The relay against a real broker: one row that cannot be sent holds up no other, and is never taken for sent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from time import monotonic
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text

from reliable_tasks.dev import Stack
from reliable_tasks.errors import PublishRefused
from reliable_tasks.model.envelope import Message
from reliable_tasks.services.relay import WINDOW, Relay
from reliable_tasks.settings import Settings
from reliable_tasks.store import outbox
from reliable_tasks.store.engine import begin
from reliable_tasks.worker.runtime import Runtime
from tests.chaos.broker_faults import full_queues
from tests.deployment import Deployment
from tests.integration.applied_topology import TOPOLOGY
from tests.standby import CANCEL, WAITING, standby_away
from tests.waiting import wait_until


def new_relay(settings: Settings, engine: Any) -> Relay:
    return Relay(engine, Runtime(settings, TOPOLOGY).publisher)


@pytest.fixture
def relay(settings: Settings, engine: Any, applied_shape: None) -> Iterator[Relay]:
    with closing(new_relay(settings, engine)) as relay:
        yield relay


def message(task_id: str, **values: Any) -> Message:
    good = Message(task_id, "pay", "", "", "default", b"[[], {}, {}]", {"id": task_id, "task": "pay"})
    return replace(good, **values)


def write(engine: Any, *messages: Message) -> None:
    with begin(engine) as connection:
        outbox.add(connection, messages)


def waiting(engine: Any) -> list[Any]:
    with begin(engine) as connection:
        return list(connection.execute(text("SELECT * FROM reliable_tasks.outbox ORDER BY id")).mappings())


def taken(channel: Any, queue: str = "default") -> list[str]:
    found = []
    while True:
        method, properties, _body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append(str(properties.message_id))


MANY = """
INSERT INTO reliable_tasks.outbox (task_id, task_name, exchange, routing_key, queue, body, headers, properties, due_at)
SELECT :name || number, 'pay', '', '', 'default', '[]', '{}', '{}', clock_timestamp() + :due
  FROM generate_series(1, 20000) number
"""

BAD = {
    "priority": {"priority": 9},
    "queue": {"queue": "gone"},
    "exchange": {"exchange": "gone", "routing_key": "x"},
    "unroutable": {"exchange": "commands", "routing_key": "gone"},
    "long-property": {"properties": {"correlation_id": "x" * 300}},
    "huge-number": {"headers": {"id": "bad", "task": "pay", "n": 2**70}},
    "unknown-property": {"properties": {"content_type": 5}},
    "long-routing-key": {"exchange": "commands", "routing_key": "x" * 300},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_row_that_cannot_be_sent_holds_up_no_other(
    engine: Any, relay: Relay, channel: Any, bad: dict[str, Any]
) -> None:
    write(engine, message("a"), message("b"), message("bad", **bad), message("c"), message("d"))
    for _ in range(3):
        relay.run_once()
    (left,) = waiting(engine)
    assert left["task_id"] == "bad"
    assert left["tries"] >= 1
    assert left["last_error"]
    assert set(taken(channel)) == {"a", "b", "c", "d"}
    # and whoever comes later
    write(engine, message("e"), message("f"))
    relay.run_once()
    assert [row["task_id"] for row in waiting(engine)] == ["bad"]
    assert taken(channel) == ["e", "f"]


def test_a_row_that_failed_a_thousand_times_still_fails_alone(
    engine: Any, relay: Relay, channel: Any
) -> None:
    write(engine, message("bad", exchange="commands", routing_key="gone"), message("a"))
    with begin(engine) as connection:
        connection.execute(text("UPDATE reliable_tasks.outbox SET tries = 5000 WHERE task_id = 'bad'"))
    assert relay.run_once() == 1
    (left,) = waiting(engine)
    assert (left["task_id"], left["tries"]) == ("bad", 5001)
    assert left["due_at"] < datetime.now(UTC) + timedelta(seconds=70)


def test_far_expiry_is_sent(engine: Any, relay: Relay, channel: Any) -> None:
    write(engine, message("a", expires_at=datetime.now(UTC) + timedelta(days=400)), message("b"))
    assert relay.run_once() == 2
    assert taken(channel) == ["a", "b"]


def test_the_next_relay_leads_when_one_is_closed(engine: Any, relay: Relay, settings: Settings) -> None:
    relay.run_once()
    with closing(new_relay(settings, engine)) as second:
        write(engine, message("a"))
        assert second.run_once() == 0
        relay.close()
        # the server releases the lock when it has seen that the session is gone
        wait_until(lambda: second.run_once() == 1, "the second leads")


def test_what_a_full_queue_has_refused_goes_out_when_its_limit_is_gone(
    deployment: Deployment, engine: Any, relay: Relay, channel: Any
) -> None:
    def refused() -> bool:
        write(engine, message(f"m{next(numbers)}"))
        relay.run_once()
        return bool(waiting(engine))

    numbers = count()
    with full_queues(deployment, "^default$"):
        wait_until(refused, "the full queue refuses a message")
    # nothing is taken out of it: nobody tells the channel that there is room again
    wait_until(lambda: relay.run_once() or not waiting(engine), "it goes out")
    assert waiting(engine) == []
    assert taken(channel) == [f"m{number}" for number in range(next(numbers))]


def test_nothing_is_sent_for_a_transaction_that_a_failover_may_undo(
    reliable_stack: Stack, engine: Any, relay: Relay, channel: Any
) -> None:
    # whose commit is told as done all the same
    deaf = sqlalchemy.create_engine(engine.url)
    with standby_away(reliable_stack, lambda: write(deaf, message("undone"))) as (pair, written):
        wait_until(lambda: pair.primary.ask(CANCEL), "the row to wait")
        written.result(30)
        with ThreadPoolExecutor(1) as pool:
            relayed = pool.submit(relay.run_once)
            wait_until(lambda: pair.primary.ask(f"SELECT count(*) FROM {WAITING}"), "the relay to wait")
            assert taken(channel) == []
            pair.standby.database.begin()
            assert relayed.result(30) == 1
    assert taken(channel) == ["undone"]
    deaf.dispose()


def test_what_is_committed_late_and_due_earlier_is_not_forgotten(
    engine: Any, relay: Relay, channel: Any
) -> None:
    with engine.connect() as slow, slow.begin():
        outbox.add(slow, [message("early")])
        write(engine, *(message(f"m{number}") for number in range(3)))
        assert relay.run_once() == 3
    wait_until(relay.run_once, "it is sent as well")
    assert taken(channel) == ["m0", "m1", "m2", "early"]


def test_one_pass_reads_several_windows_and_keeps_the_order(engine: Any, relay: Relay, channel: Any) -> None:
    count = 2 * WINDOW + 7
    for begun in range(0, count, 100):
        write(engine, *(message(f"m{number}") for number in range(begun, min(begun + 100, count))))
    assert relay.run_once() == count
    assert waiting(engine) == []
    found = []
    for method, properties, _ in channel.consume("default", auto_ack=True, inactivity_timeout=2):
        if method is None:
            break
        found.append(properties.message_id)
    assert found == [f"m{number}" for number in range(count)]


def test_only_what_is_due_is_gone_through(engine: Any, relay: Relay) -> None:
    """Neither what is due later, nor what is deleted while an old transaction keeps Postgres from removing it."""
    asked: list[str] = []

    def note(_connection: Any, cursor: Any, *_rest: Any) -> None:
        asked.append(cursor.query.decode())

    with engine.connect() as old, old.begin():
        old.execute(text("SELECT txid_current()"))
        with begin(engine) as connection:
            connection.execute(text(MANY), {"name": "later", "due": timedelta(days=1)})
            connection.execute(text(MANY), {"name": "gone", "due": timedelta(0)})
            connection.execute(text("DELETE FROM reliable_tasks.outbox WHERE task_id LIKE 'gone%'"))
        write(engine, message("now"))
        assert relay.run_once() == 1
        write(engine, message("next"))
        relay._whole_again_at = monotonic() + 3600
        sqlalchemy.event.listen(engine, "after_cursor_execute", note)
        try:
            assert relay.run_once() == 1
        finally:
            sqlalchemy.event.remove(engine, "after_cursor_execute", note)
        (query,) = [one for one in asked if "FROM reliable_tasks.outbox" in one and one.startswith("SELECT")]
        with begin(engine) as connection:
            # the planner may know too little of a table that has just changed
            connection.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"))
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"
            (plan,) = connection.exec_driver_sql(explained.replace("%", "%%")).scalar_one()
    scan = plan["Plan"]
    while "Plans" in scan:
        scan = scan["Plans"][0]
    assert scan["Index Name"] == "ix_outbox_due_at"
    assert scan.get("Rows Removed by Filter", 0) == 0
    assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] < 50


def test_before_the_topology_is_applied_a_refusal_says_so(settings: Settings) -> None:
    with closing(Runtime(settings, TOPOLOGY).publisher) as publisher, pytest.raises(PublishRefused) as told:
        publisher.publish(message("a", exchange="commands", routing_key="default"))
    assert told.value.hint == "run `reliable-tasks topology apply`"
