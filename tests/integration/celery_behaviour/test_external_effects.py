"""Calls to other systems: asked, called again, or left to a person, when nobody knows whether they happened."""

from typing import Any

import pytest

from tests.waiting import wait_until

SECONDS = 30


def test_a_call_that_works(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    assert tasks.tell.delay(unique, "none").get(timeout=SECONDS) == "call 1"
    assert marks.count(f"{unique}-called") == 1


def test_a_transient_failure_is_tried_again(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.tell.delay(unique, "transient")
    assert sent.get(timeout=SECONDS) == "call 2"
    assert [row["state"] for row in database.attempts(sent.id)] == ["failed", "succeeded"]


def test_an_unclear_failure_is_uncertain(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.tell.delay(unique, "cut")
    with pytest.raises(RuntimeError, match="the line was cut"):
        sent.get(timeout=SECONDS)
    assert database.state(sent.id) == "uncertain"
    assert marks.count(f"{unique}-called") == 1


def test_a_process_killed_in_the_call_leaves_it_uncertain(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    sent = tasks.tell.delay(unique, "kill")
    wait_until(lambda: database.state(sent.id) == "uncertain", "nobody knows", SECONDS)
    assert marks.count(f"{unique}-called") == 1
    assert database.dead_letter(sent.id)["reason"] == "uncertain"


@pytest.mark.parametrize(
    ("answer", "calls", "state"),
    [("done", 1, "succeeded"), ("not", 2, "succeeded"), ("unknown", 1, "uncertain")],
)
@pytest.mark.parametrize("mishap", ["kill", "cut"])
def test_a_probe_decides(
    tasks: Any, database: Any, marks: Any, unique: str, answer: str, calls: int, state: str, mishap: str
) -> None:
    marks.leave(f"{unique}-answer", answer)
    sent = tasks.tell_and_ask.delay(unique, mishap)
    wait_until(lambda: database.state(sent.id) == state, state, SECONDS)
    assert marks.count(f"{unique}-called") == calls
    assert marks.count(f"{unique}-asked") >= 1
    if state == "succeeded":
        found = {"found": f"asked:{unique}"} if answer == "done" else "call 2"
        assert sent.get(timeout=SECONDS) == found


@pytest.mark.parametrize("mishap", ["kill", "cut"])
def test_call_again_calls_again(tasks: Any, marks: Any, unique: str, mishap: str) -> None:
    assert tasks.tell_again.delay(unique, mishap).get(timeout=SECONDS) == "call 2"
    assert marks.count(f"{unique}-called") == 2


def test_a_duplicate_of_a_running_call_waits_for_its_result(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    first = tasks.tell.delay(unique, "hold")
    wait_until(lambda: marks.count(f"{unique}-began"), "the call runs")
    second = tasks.tell.delay(unique, "hold")
    wait_until(lambda: "busy" in database.suppressed(second.id), "the second was told to wait")
    marks.leave(f"{unique}-go")
    with pytest.raises(RuntimeError, match="the line was cut"):
        first.get(timeout=SECONDS)
    with pytest.raises(Exception, match="uncertain"):
        second.get(timeout=SECONDS)
    assert marks.count(f"{unique}-called") == 1


def test_a_lost_attempt_is_written_by_the_next(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.tell_again.delay(unique, "kill")
    assert sent.get(timeout=SECONDS) == "call 2"
    assert [(row["attempt"], row["state"]) for row in database.attempts(sent.id)] == [
        (1, "lost"),
        (2, "succeeded"),
    ]
