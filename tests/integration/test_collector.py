"""The collector takes in what no worker has explained, whatever it looks like."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from reliable_tasks.errors import TopologyDrift
from reliable_tasks.services.collector import Collector
from reliable_tasks.store.engine import begin
from tests.integration.dying import die

Collected = Callable[[int], list[Any]]


@pytest.fixture
def collected(engine: Any, collector: Collector) -> Collected:
    """Collects so many messages, then returns the dead letters with their results."""
    joined = """
        SELECT d.*, r.state AS result_state, r.finished_at
          FROM reliable_tasks.dead_letters d JOIN reliable_tasks.results r USING (task_id) ORDER BY d.id
    """

    def collect(expected: int) -> list[Any]:
        assert collector.run_once() == expected
        assert collector.run_once() == 0
        with begin(engine) as connection:
            return list(connection.execute(text(joined)).mappings())

    return collect


def replay_everything(engine: Any) -> None:
    """What an operator's replay writes."""
    with begin(engine) as connection:
        connection.execute(text("UPDATE reliable_tasks.dead_letters SET state = 'replaying'"))
        connection.execute(text("UPDATE reliable_tasks.results SET state = 'enqueued', replay = 1"))


def test_bytes_that_are_no_task_are_kept_byte_for_byte(channel: Any, collected: Collected) -> None:
    die(channel, b"\x00\xff not json")
    (kept,) = collected(1)
    assert bytes(kept["body"]) == b"\x00\xff not json"
    assert (kept["reason"], kept["task_name"], kept["state"]) == ("undecodable", None, "open")
    assert kept["task_id"].startswith("unidentified-")
    assert kept["result_state"] == "dead"


def test_text_that_postgres_cannot_hold_stops_nobody(channel: Any, collected: Collected) -> None:
    lone_surrogate = "\ud800".encode("utf-8", "surrogatepass")
    die(channel, id="a\x00", task="pay", shadow=lone_surrogate, **{"k\x00": ["\x00"]})
    die(channel, id="b", task="pay")
    kept = collected(2)
    assert kept[0]["reason"] == "undecodable"
    assert kept[0]["task_id"].startswith("unidentified-"), "a mark in the NUL's place would be another's id"
    assert (kept[0]["headers"]["id"], kept[0]["headers"]["k\ufffd"]) == ("a\ufffd", ["\ufffd"])
    assert "the header id must be a text" in kept[0]["exception_message"]


def test_a_priority_level_is_kept_and_the_end_has_a_time(channel: Any, collected: Collected) -> None:
    die(channel, queue="payments.p2", id="c", task="elsewhere")
    (kept,) = collected(1)
    assert (kept["queue"], kept["properties"]["priority"], kept["reason"]) == ("payments", 2, "unknown_task")
    assert kept["finished_at"] is not None


def test_what_died_by_the_delivery_limit_unattempted_goes_back_at_its_level(
    engine: Any, channel: Any, collected: Collected
) -> None:
    die(channel, b"[[], {}, {}]", reason="delivery_limit", queue="payments.p1", id="d", task="pay")
    assert collected(1) == []
    with begin(engine) as connection:
        (row,) = connection.execute(text("SELECT * FROM reliable_tasks.outbox")).mappings()
    assert (row["task_id"], row["queue"], row["priority"]) == ("d", "payments", 1)
    assert json.loads(bytes(row["body"])) == [[], {}, {}]


def test_what_dies_again_and_again_without_an_attempt_is_a_dead_letter(
    channel: Any, collected: Collected
) -> None:
    die(channel, reason="delivery_limit", id="d", task="pay", **{"rt-put-back": 3})
    (kept,) = collected(1)
    assert (kept["reason"], kept["state"]) == ("delivery_limit", "open")


def test_a_replay_that_no_worker_could_run_is_dead_again(
    engine: Any, channel: Any, collected: Collected
) -> None:
    die(channel, id="e", task="elsewhere")
    collected(1)
    replay_everything(engine)
    die(channel, id="e", task="elsewhere", **{"rt-replay": 1})
    kept = collected(1)
    assert [(row["replay"], row["state"]) for row in kept] == [(0, "dead_again"), (1, "open")]


def test_the_message_of_the_first_death_does_not_undo_a_replay(
    engine: Any, channel: Any, collected: Collected
) -> None:
    die(channel, id="f", task="pay")
    collected(1)
    replay_everything(engine)
    die(channel, id="f", task="pay")
    (kept,) = collected(1)
    assert (kept["state"], kept["result_state"]) == ("replaying", "enqueued")


def test_a_queue_that_is_not_there_is_told_until_it_is(channel: Any, collector: Collector) -> None:
    channel.queue_delete("default.dead")
    with pytest.raises(TopologyDrift, match=r"no queue 'default\.dead'") as told:
        collector.run_once()
    assert told.value.hint == "run `reliable-tasks topology apply`"
    channel.queue_declare("default.dead", durable=True, arguments={"x-queue-type": "quorum"})
    assert collector.run_once() == 0
