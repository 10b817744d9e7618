"""Each part counts once, whoever counts it and however often; of two last parts one is the last."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from reliable_tasks.model.states import TaskState
from reliable_tasks.store import chords
from reliable_tasks.store.engine import begin
from tests.waiting import wait_until

GOOD, BAD, AGAIN = TaskState.SUCCEEDED, TaskState.DEAD, TaskState.ENQUEUED


@pytest.fixture
def chord(engine: Any) -> Iterator[str]:
    """A chord of two parts."""
    with begin(engine) as connection:
        chords.add(connection, [chords.NewChord("g", ("a", "b"))])
    yield "g"
    with begin(engine) as connection:
        (row,) = connection.execute(text("SELECT * FROM reliable_tasks.chords")).mappings()
        counted = "SELECT count(*) FILTER (WHERE state <> 'waiting') FROM reliable_tasks.chord_parts"
        if row["state"] != "sent":
            assert row["ended"] == connection.execute(text(counted)).scalar_one()


def count(engine: Any, **states: TaskState) -> list[str]:
    with begin(engine) as connection:
        return chords.count(connection, states)


def test_a_part_that_ends_twice_counts_once(engine: Any, chord: str) -> None:
    assert [count(engine, a=GOOD) for _ in range(3)] == [[], [], []]
    assert count(engine, b=GOOD) == [chord]
    assert count(engine, b=GOOD, a=GOOD) == [], "nothing has changed by that"


def test_what_is_no_part_of_a_chord_counts_nowhere(engine: Any, chord: str) -> None:
    assert count(engine, other=GOOD) == []


def test_parts_that_end_together_count_together(engine: Any, chord: str) -> None:
    assert count(engine, a=GOOD, b=BAD) == [chord]


def test_of_two_last_parts_at_the_same_time_one_is_the_last(engine: Any, chord: str) -> None:
    asks = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with ThreadPoolExecutor(1) as threads, begin(engine) as first:
        assert chords.count(first, {"a": GOOD}) == []
        second = threads.submit(count, engine, b=GOOD)
        # each look in a transaction of its own: within one, Postgres shows what it has shown first
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            wait_until(lambda: looking.execute(text(asks)).scalar() == 1, "the second waits for the first")
        first.commit()
        assert second.result(30) == [chord]


def test_a_part_that_two_executions_end_at_the_same_time_counts_once(engine: Any, chord: str) -> None:
    begun = threading.Barrier(2)

    def end() -> list[str]:
        begun.wait(30)
        return count(engine, a=GOOD)

    with ThreadPoolExecutor(2) as threads:
        assert [one.result(30) for one in [threads.submit(end), threads.submit(end)]] == [[], []]


def test_a_dead_part_that_is_replayed_is_awaited_again(engine: Any, chord: str) -> None:
    assert count(engine, a=BAD) == []
    assert count(engine, b=GOOD) == [chord]
    with begin(engine) as connection:
        complete = chords.take_complete(connection, chord)
        assert complete is not None
        assert (complete.failed, complete.parts) == (1, ["a"])
        chords.finish(connection, chord, sent=False)
    assert count(engine, a=AGAIN) == []
    assert count(engine, a=GOOD) == [chord]
    with begin(engine) as connection:
        complete = chords.take_complete(connection, chord)
        assert complete is not None
        assert (complete.failed, complete.parts) == (0, ["a", "b"])


def test_a_body_that_is_sent_is_not_sent_again_whatever_its_parts_do(engine: Any, chord: str) -> None:
    assert count(engine, a=GOOD, b=GOOD) == [chord]
    with begin(engine) as connection:
        chords.finish(connection, chord, sent=True)
    for state in (GOOD, BAD, AGAIN):
        assert count(engine, a=state) == []
    with begin(engine) as connection:
        assert chords.take_complete(connection, chord) is None


def test_a_header_that_is_sent_again_is_the_same_chord(engine: Any, chord: str) -> None:
    count(engine, a=GOOD)
    with begin(engine) as connection:
        chords.add(connection, [chords.NewChord("g", ("a", "b"))])
    assert count(engine, b=GOOD) == [chord]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("ended = 3", "counts"),
        ("failed = 1", "counts"),
        ("state = 'sent', done_at = now()", "done"),
        ("ended = 2, state = 'sent'", "done_at"),
        ("ended = 2, failed = 1, state = 'sent', done_at = now()", "sent"),
        ("ended = 2, state = 'forgotten', done_at = now()", "state"),
    ],
)
def test_the_database_refuses_counts_that_cannot_be(engine: Any, chord: str, change: str, rule: str) -> None:
    with pytest.raises(IntegrityError, match=f"ck_chords_{rule}"), begin(engine) as connection:
        connection.execute(text(f"UPDATE reliable_tasks.chords SET {change}"))
