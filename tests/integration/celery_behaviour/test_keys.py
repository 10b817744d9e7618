"""One effect per key: duplicates, conflicts, busy keys, retries and rollbacks of database effects."""

from decimal import Decimal
from typing import Any

import pytest

from reliable_tasks import PermanentError
from reliable_tasks.operate.dead_letters import Known, Operator, replay
from tests.waiting import wait_until

SECONDS = 20
ANY = Known(queue=lambda name: True)


def test_a_duplicate_gets_the_stored_result(tasks: Any, database: Any, unique: str) -> None:
    first, second = tasks.pay.delay(unique, Decimal("1.10")), tasks.pay.delay(unique, Decimal("1.1"))
    assert first.get(timeout=SECONDS) == second.get(timeout=SECONDS)
    assert second.get()["amount"] == Decimal("1.10")
    assert database.effects(unique) == 1
    states = {row.id: database.result(row.id) for row in (first, second)}
    assert sorted(row["state"] for row in states.values()) == ["duplicate", "succeeded"]


def test_a_duplicate_still_calls_its_own_link(tasks: Any, marks: Any, unique: str) -> None:
    tasks.pay.delay(unique).get(timeout=SECONDS)
    tasks.pay.apply_async((unique,), link=tasks.leave.si(f"{unique}-linked"))
    wait_until(lambda: marks.count(f"{unique}-linked") == 1, "the link of the duplicate")


def test_the_same_key_with_another_payload_runs_nothing(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    tasks.pay.delay(unique, Decimal(1)).get(timeout=SECONDS)
    sent = tasks.pay.apply_async((unique, Decimal(2)), link_error=tasks.heard.s(f"{unique}-heard"))
    with pytest.raises(Exception, match="another payload"):
        sent.get(timeout=SECONDS)
    assert database.effects(unique) == 1
    assert database.dead_letter(sent.id)["reason"] == "conflict"
    wait_until(lambda: marks.count(f"{unique}-heard") == 1, "the errback")


def test_a_duplicate_of_a_running_task_waits_without_spinning(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    first = tasks.pay_slowly.delay(unique)
    wait_until(lambda: marks.count(f"{unique}-began"), "the first runs")
    second = tasks.pay_slowly.delay(unique)
    wait_until(lambda: "busy" in database.suppressed(second.id), "the second was told to wait")
    marks.leave(f"{unique}-go")
    assert first.get(timeout=SECONDS) == second.get(timeout=SECONDS) == unique
    assert database.effects(unique) == 1
    assert len(database.suppressed(second.id)) < 5


def test_a_failed_attempt_leaves_nothing_behind(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.pay_at_last.delay(unique, 2)
    assert sent.get(timeout=SECONDS) == 3
    assert database.effects(unique) == 1
    # both ways of sending, of the one attempt that committed
    wait_until(lambda: marks.count(f"{unique}-sent") == 2, "what the task sent")
    assert [row["attempt"] for row in database.attempts(sent.id)] == [1, 2, 3]


def test_exhausted_attempts_are_dead(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.pay_at_last.delay(unique, 99)
    with pytest.raises(Exception, match="not yet"):
        sent.get(timeout=SECONDS)
    assert (database.state(sent.id), database.result(sent.id)["reason"]) == ("dead", "exhausted")
    assert database.effects(unique) == 0
    assert marks.count(f"{unique}-sent") == 0


def test_a_permanent_error_is_dead_at_once(tasks: Any, database: Any, unique: str) -> None:
    sent = tasks.refuse.delay(unique)
    with pytest.raises(PermanentError, match="no funds"):
        sent.get(timeout=SECONDS)
    assert database.effects(unique) == 0
    assert database.state(sent.id) == "dead"
    assert len(database.attempts(sent.id)) == 1
    wait_until(lambda: database.dead_letter(sent.id)["collected_at"], "the collector has seen it")


def test_without_dead_letter_it_just_fails(tasks: Any, database: Any, unique: str) -> None:
    sent = tasks.refuse_quietly.delay(unique)
    with pytest.raises(PermanentError, match="no funds"):
        sent.get(timeout=SECONDS)
    assert database.state(sent.id) == "failed"
    assert database.dead_letter(sent.id) == {}


def test_bind_and_self_retry_of_an_idempotent_task(tasks: Any, database: Any, unique: str) -> None:
    sent = tasks.pay_bound.delay(unique)
    assert sent.get(timeout=SECONDS) == [tasks.pay_bound.name, sent.id, 2]
    assert database.effects(unique) == 1


def test_a_process_killed_in_a_database_effect(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    import os
    import signal

    sent = tasks.pay_slowly.delay(unique)
    wait_until(lambda: marks.count(f"{unique}-began"), "the task runs")
    os.kill(marks.pid(f"{unique}-began"), signal.SIGKILL)
    wait_until(lambda: marks.count(f"{unique}-began") == 2, "it runs again")
    marks.leave(f"{unique}-go")
    assert sent.get(timeout=SECONDS) == unique
    assert database.effects(unique) == 1


def test_a_replay_that_is_retried_and_dies_is_a_dead_letter_of_its_own(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    sent = tasks.pay_at_last.delay(unique, 99)
    wait_until(lambda: database.state(sent.id) == "dead", "it is dead")
    letter = database.dead_letter(sent.id)
    assert [
        done.outcome for done in replay(tasks.app.runtime.engine, [letter["id"]], Operator("a test"), ANY)
    ]
    query = "SELECT replay, state FROM reliable_tasks.dead_letters WHERE task_id = :id ORDER BY replay"
    wait_until(lambda: len(database.rows(query, id=sent.id)) == 2, "it is dead again")
    assert database.rows(query, id=sent.id) == [
        {"replay": 0, "state": "dead_again"},
        {"replay": 1, "state": "open"},
    ]
    assert marks.count(unique) == 6
    assert [row["replay"] for row in database.attempts(sent.id)] == [0, 0, 0, 1, 1, 1]


def test_headers_survive_a_retry(tasks: Any, database: Any, unique: str) -> None:
    sent = tasks.where.apply_async((unique,), headers={"rt-correlation-id": "business case 7"})
    sent.get(timeout=SECONDS)
    assert database.result(sent.id)["correlation_id"] == "business case 7"


def test_a_business_case_is_shared_by_what_a_task_sends(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    sent = tasks.pay_at_last.apply_async((unique, 0), headers={"rt-correlation-id": unique})
    sent.get(timeout=SECONDS)
    query = "SELECT name FROM reliable_tasks.results WHERE correlation_id = :case AND state = 'succeeded'"
    wait_until(lambda: len(database.rows(query, case=unique)) == 3, "the task and the two that it sent")
