"""A task called as a function claims its key all the same."""

from typing import Any

import pytest

from reliable_tasks import PermanentError
from reliable_tasks.errors import ArgumentError, ExecutionError, UncertainEffect
from reliable_tasks.testing.eager import eager
from tests.waiting import wait_until

SECONDS = 20


def test_a_call_commits_and_is_recorded(declared: Any, database: Any, unique: str) -> None:
    assert declared.pay(unique)["order"] == unique
    assert database.effects(unique) == 1
    rows = database.rows(
        "SELECT state FROM reliable_tasks.results WHERE idempotency_key = :k", k=f"pay:{unique}"
    )
    assert rows == [{"state": "succeeded"}]


def test_a_second_call_gives_the_stored_result(declared: Any, database: Any, unique: str) -> None:
    assert declared.pay(unique) == declared.pay(unique)
    assert database.effects(unique) == 1


def test_the_worker_knows_what_was_called_inline(tasks: Any, database: Any, unique: str) -> None:
    tasks.pay(unique)
    sent = tasks.pay.delay(unique)
    assert sent.get(timeout=SECONDS)["order"] == unique
    assert (database.effects(unique), database.state(sent.id)) == (1, "duplicate")


def test_an_error_reaches_the_caller_and_leaves_nothing(declared: Any, database: Any, unique: str) -> None:
    for _ in range(2):
        with pytest.raises(PermanentError, match="no funds"):
            declared.refuse(unique)
    assert database.effects(unique) == 0


def test_another_payload_is_refused(declared: Any, database: Any, unique: str) -> None:
    declared.pay(unique)
    with pytest.raises(ExecutionError):
        declared.pay(unique, 2)
    assert database.effects(unique) == 1


def test_a_float_is_refused(declared: Any, unique: str) -> None:
    with pytest.raises(ArgumentError, match="float"):
        declared.pay(unique, 1.5)


def test_apply_runs_here(declared: Any, database: Any, unique: str) -> None:
    done = declared.pay.apply((unique,))
    assert done.get()["order"] == unique
    assert database.state(done.id) == "succeeded"


def test_what_a_call_sends_is_sent_with_its_commit(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    assert tasks.pay_at_last(unique, 0) == 1
    wait_until(lambda: marks.count(f"{unique}-sent") == 2, "what it sent")


def test_a_task_may_call_itself_as_a_function(tasks: Any, database: Any, unique: str) -> None:
    assert tasks.pay_parts.delay(unique, 2).get(timeout=SECONDS) == [unique + "2", unique + "1", unique + "0"]
    assert [database.effects(f"{unique}{number}") for number in range(3)] == [1, 1, 1]


def test_an_external_call_that_failed_unclearly_is_not_called_again(
    declared: Any, marks: Any, database: Any, unique: str
) -> None:
    with pytest.raises(RuntimeError, match="the line was cut"):
        declared.tell(unique, "cut")
    with pytest.raises(UncertainEffect):
        declared.tell(unique, "cut")
    assert marks.count(f"{unique}-called") == 1


def test_an_external_call_that_did_nothing_may_be_called_again(
    declared: Any, marks: Any, unique: str
) -> None:
    with pytest.raises(Exception, match="refused"):
        declared.tell(unique, "transient")
    assert declared.tell(unique, "transient") == "call 2"


def test_eager_mode_claims_and_records(declared: Any, database: Any, unique: str) -> None:
    with eager(declared.app):
        first, second = declared.pay.delay(unique), declared.pay.delay(unique)
        assert first.get() == second.get()
    assert database.effects(unique) == 1
    assert database.state(first.id) == "succeeded"


def test_eager_mode_runs_what_was_sent_after_the_commit(
    declared: Any, database: Any, marks: Any, unique: str
) -> None:
    with eager(declared.app):
        with pytest.raises(Exception, match="not yet"):
            declared.pay_at_last.delay(unique, 1)
        assert marks.count(f"{unique}-sent") == 0
        assert declared.pay_at_last.delay(unique, 1).get() == 1
        assert marks.count(f"{unique}-sent") == 2
    assert database.effects(unique) == 1


def test_eager_canvas(declared: Any) -> None:
    with eager(declared.app):
        assert (declared.add.s(1, 2) | declared.add.s(3)).delay().get() == 6
