"""Tasks that shall not run any more: revoked, terminated, expired."""

import time
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from tests.waiting import wait_until

SECONDS = 20


def test_a_revoked_task_does_not_run(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.leave.apply_async((unique,), countdown=2)
    wait_until(lambda: sent.revoke() or revoked(tasks, sent.id), "the workers know")
    with pytest.raises(TaskRevokedError, match="revoked"):
        sent.get(timeout=SECONDS)
    assert sent.state == "REVOKED"
    assert database.state(sent.id) == "cancelled"
    assert marks.count(unique) == 0


def revoked(tasks: Any, task_id: str) -> bool:
    answers = tasks.app.control.inspect(timeout=2).revoked() or {}
    return any(task_id in ids for ids in answers.values())


def test_a_terminated_task_is_cancelled(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.hold.delay(unique)
    wait_until(lambda: marks.count(f"{unique}-began"), "the task runs")
    sent.revoke(terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError, match="terminated"):
        sent.get(timeout=SECONDS)
    assert database.state(sent.id) == "cancelled"
    assert marks.count(f"{unique}-ended") == 0


def test_a_terminated_database_effect_is_rolled_back(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    sent = tasks.pay_slowly.delay(unique)
    wait_until(lambda: marks.count(f"{unique}-began"), "the task runs")
    sent.revoke(terminate=True, signal="SIGKILL")
    wait_until(lambda: database.state(sent.id) == "cancelled", "it is cancelled")
    assert database.effects(unique) == 0


def test_a_terminated_external_call_is_uncertain(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = tasks.tell.delay(unique, "hold")
    wait_until(lambda: marks.count(f"{unique}-began"), "the call runs")
    sent.revoke(terminate=True, signal="SIGKILL")
    wait_until(lambda: database.state(sent.id) == "uncertain", "nobody knows")
    assert marks.count(f"{unique}-called") == 1


def test_a_task_that_expires_while_it_waits_for_a_process(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    """Already with the worker, behind long tasks in all its processes."""
    for number in range(4):
        tasks.hold.delay(f"{unique}{number}")
    wait_until(lambda: all(marks.count(f"{unique}{n}-began") for n in range(4)), "all processes are busy")
    sent = tasks.leave.apply_async((unique,), expires=1)
    try:
        expired_at = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > expired_at, "it has expired")
    finally:
        for number in range(4):
            marks.leave(f"{unique}{number}-go")
    with pytest.raises(TaskRevokedError, match="expired"):
        sent.get(timeout=SECONDS)
    assert database.state(sent.id) == "expired"
    assert marks.count(unique) == 0
