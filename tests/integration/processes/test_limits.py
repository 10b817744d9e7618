"""What a process that executes tasks itself cannot do by itself: limits of time, and heartbeats."""

from typing import Any

from tests.database import Database
from tests.deployment import Deployment
from tests.integration.processes.conftest import children
from tests.waiting import wait_until


def test_limits_and_heartbeats_are_kept_by_a_node(
    around: Deployment, database: Database, tasks: Any, worker: Any, began: Any, go_on: Any, case: str
) -> None:
    """One program for all of it: its parts are functions below."""
    with worker(1) as process:
        (node,) = children(process.pid)
        a_soft_limit_is_an_exception_in_the_task(database, tasks, case)
        a_hard_limit_ends_the_task_as_it_does_in_a_pool(database, tasks, began, case)
        one_task_at_a_time_whether_it_has_a_limit_or_not(database, tasks, began, go_on, case)
        a_task_longer_than_heartbeats_is_delivered_once(database, tasks, began, case)
        after = tasks.add.delay(case=f"{case}after")
        assert database.until(after.id, "succeeded", 60)["result"].tobytes() == str(node).encode()
        assert children(process.pid) == [node]
    assert "onnection to broker lost" not in around.log(case)


def a_soft_limit_is_an_exception_in_the_task(database: Database, tasks: Any, case: str) -> None:
    told = tasks.soft.delay(case=case)
    assert database.until(told.id, "succeeded", 60)["result"].tobytes() == b'"told"'


def a_hard_limit_ends_the_task_as_it_does_in_a_pool(
    database: Database, tasks: Any, began: Any, case: str
) -> None:
    declared = tasks.limited.delay(case=f"{case}declared")
    sent = tasks.wait.apply_async(kwargs={"case": f"{case}sent"}, time_limit=1)
    for each in (declared, sent):
        assert database.until(each.id, "dead", 60)["reason"] == "time_limit"
        assert [row["state"] for row in database.attempts(each.id)] == ["timed_out"]
        assert database.dead_letter(each.id)["reason"] == "time_limit"
    assert [database.effects(f"{case}{word}") for word in ("declared", "sent")] == [0, 0]
    assert len(began(f"{case}declared")) == 1


def one_task_at_a_time_whether_it_has_a_limit_or_not(
    database: Database, tasks: Any, began: Any, go_on: Any, case: str
) -> None:
    limited = tasks.wait.apply_async(kwargs={"case": f"{case}limited"}, time_limit=600)
    wait_until(lambda: began(f"{case}limited"), "it runs")
    others = [tasks.add.delay(case=f"{case}beside"), tasks.pay.delay(case=f"{case}beside")]
    go_on(f"{case}limited")
    for each in (limited, *others):
        database.until(each.id, "succeeded", 60)
    (end,) = [row["finished_at"] for row in database.attempts(limited.id)]
    assert all(database.attempts(each.id)[0]["started_at"] >= end for each in others)


def a_task_longer_than_heartbeats_is_delivered_once(
    database: Database, tasks: Any, began: Any, case: str
) -> None:
    long = tasks.long.delay(case=f"{case}long")
    database.until(long.id, "succeeded", 60)
    assert len(began(f"{case}long")) == 1
    assert database.suppressed(long.id) == []
    assert database.effects(f"{case}long") == 1
