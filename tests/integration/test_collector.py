"""The collector takes in what no worker has explained, whatever it looks like."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from reliable_tasks.broker.dead_letter_source import DeadMessage
from reliable_tasks.services.collector import Collector
from reliable_tasks.store.engine import begin, create_engine

KNOWN = {"pay"}


class Source:
    """Messages as the broker would give them, given again until they are acked."""

    def __init__(self, *messages: DeadMessage) -> None:
        self.messages = list(messages)

    def take(self, limit: int) -> list[DeadMessage]:
        return self.messages[:limit]

    def ack(self) -> None:
        self.messages.clear()

    def close(self) -> None:
        pass


@pytest.fixture
def engine(fresh_database: str) -> Iterator[Any]:
    engine = create_engine(fresh_database)
    yield engine
    engine.dispose()


def queue_of(physical: str) -> tuple[str, int | None]:
    name, _, level = physical.partition(".p")
    return name, int(level or 0)


def collect(engine: Any, *messages: DeadMessage) -> list[Any]:
    """Collect, then return the dead letters with their results."""
    collector = Collector(engine, Source(*messages), KNOWN.__contains__, queue_of)  # type: ignore[arg-type]
    assert collector.run_once() == len(messages)
    assert collector.run_once() == 0
    joined = """
        SELECT d.*, r.state AS result_state, r.finished_at
          FROM reliable_tasks.dead_letters d JOIN reliable_tasks.results r USING (task_id) ORDER BY d.id
    """
    with begin(engine) as connection:
        return list(connection.execute(text(joined)).mappings())


def message(
    body: bytes = b"[]", reason: str = "rejected", queue: str = "payments", **headers: Any
) -> DeadMessage:
    return DeadMessage(body, headers, {"content_type": "application/json"}, queue, death_reason=reason)


def test_bytes_that_are_no_task_are_kept_byte_for_byte(engine: Any) -> None:
    (kept,) = collect(engine, message(b"\x00\xff not json"))
    assert bytes(kept["body"]) == b"\x00\xff not json"
    assert (kept["reason"], kept["task_name"], kept["state"]) == ("undecodable", None, "open")
    assert kept["task_id"].startswith("unidentified-")
    assert kept["result_state"] == "dead"


def test_text_that_postgres_cannot_hold_stops_nobody(engine: Any) -> None:
    bad = message(id="a\x00", task="pay\x00", shadow="\ud800", **{"k\x00": ["\x00"], "n": [float("nan")]})
    kept = collect(engine, bad, message(id="b", task="pay"))
    assert [row["task_id"] for row in kept] == ["a\ufffd", "b"]
    assert kept[0]["headers"]["k\ufffd"] == ["\ufffd"]


def test_a_priority_level_is_kept_and_the_end_has_a_time(engine: Any) -> None:
    (kept,) = collect(engine, message(id="c", task="elsewhere", queue="payments.p2"))
    assert (kept["queue"], kept["properties"]["priority"], kept["reason"]) == ("payments", 2, "unknown_task")
    assert kept["finished_at"] is not None


def test_what_died_by_the_delivery_limit_unattempted_goes_back_at_its_level(engine: Any) -> None:
    assert (
        collect(engine, message(b"[[], {}, {}]", "delivery_limit", "payments.p1", id="d", task="pay")) == []
    )
    with begin(engine) as connection:
        (row,) = connection.execute(text("SELECT * FROM reliable_tasks.outbox")).mappings()
    assert (row["task_id"], row["queue"], row["priority"]) == ("d", "payments", 1)
    assert json.loads(bytes(row["body"])) == [[], {}, {}]


def test_what_dies_again_and_again_without_an_attempt_is_a_dead_letter(engine: Any) -> None:
    (kept,) = collect(engine, message(b"[]", "delivery_limit", id="d", task="pay", **{"rt-put-back": 3}))
    assert (kept["reason"], kept["state"]) == ("delivery_limit", "open")


def test_a_replay_that_no_worker_could_run_is_dead_again(engine: Any) -> None:
    collect(engine, message(id="e", task="elsewhere"))
    with begin(engine) as connection:
        connection.execute(text("UPDATE reliable_tasks.dead_letters SET state = 'replaying'"))
        connection.execute(text("UPDATE reliable_tasks.results SET state = 'enqueued', replay = 1"))
    kept = collect(engine, message(id="e", task="elsewhere", **{"rt-replay": 1}))
    assert [(row["replay"], row["state"]) for row in kept] == [(0, "dead_again"), (1, "open")]


def test_the_message_of_the_first_death_does_not_undo_a_replay(engine: Any) -> None:
    dead = message(id="f", task="pay")
    collect(engine, dead)
    with begin(engine) as connection:
        connection.execute(text("UPDATE reliable_tasks.dead_letters SET state = 'replaying'"))
        connection.execute(text("UPDATE reliable_tasks.results SET state = 'enqueued', replay = 1"))
    (kept,) = collect(engine, dead)
    assert (kept["state"], kept["result_state"]) == ("replaying", "enqueued")
