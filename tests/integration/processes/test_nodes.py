"""What happens to the tasks of a worker of several processes when these die or are stopped."""

import os
import signal
from typing import Any

from tests.database import Database
from tests.deployment import Deployment
from tests.integration.processes.conftest import children, is_running
from tests.waiting import wait_until


def test_all_nodes_take_tasks_and_a_warm_stop_lets_them_end(
    around: Deployment, database: Database, tasks: Any, worker: Any, began: Any, go_on: Any, case: str
) -> None:
    with worker(2, "-n", "teller@%h") as process:
        nodes = set(children(process.pid))
        sent = [tasks.wait.delay(case=f"{case}{letter}") for letter in "ab"]
        wait_until(lambda: began(f"{case}a") and began(f"{case}b"), "each of them executes one")
        later = tasks.pay.delay(case=f"{case}c")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: around.log(case).count("Warm shutdown") == 2, "both are told to stop")
        for letter in "ab":
            go_on(f"{case}{letter}")
        assert process.wait(60) == 0
    rows = [database.result(each.id) for each in sent]
    assert [row["state"] for row in rows] == ["succeeded"] * 2
    assert {int(row["result"].tobytes()) for row in rows} == nodes
    assert {row["worker"].partition("@")[0] for row in rows} == {"teller-1", "teller-2"}
    with worker(1):
        database.until(later.id, "succeeded", 60)
    assert [database.effects(f"{case}{letter}") for letter in "abc"] == [1, 1, 1]


def test_nothing_is_lost_with_a_node_that_is_killed_and_another_takes_its_place(
    around: Deployment, database: Database, tasks: Any, worker: Any, began: Any, go_on: Any, case: str
) -> None:
    with worker(2) as process:
        waiting = tasks.wait.delay(case=case)
        others = [tasks.pay.delay(case=f"{case}{number}") for number in range(40)]
        (killed,) = wait_until(lambda: began(case), "it runs")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(began(case)) == 2, "it runs again", 60)
        go_on(case)
        for each in (waiting, *others):
            database.until(each.id, "succeeded", 60)
        wait_until(lambda: around.log(case).count(" ready.") == 3, "there is another node", 60)
        assert len(children(process.pid)) == 2
        assert killed not in children(process.pid)
    assert "has ended by signal 9: it is started again" in around.log(case)
    assert [database.effects(key) for key in (case, *(f"{case}{number}" for number in range(40)))] == [1] * 41


def test_nodes_do_not_outlive_the_program_and_nothing_is_lost_with_it(
    database: Database, tasks: Any, worker: Any, began: Any, go_on: Any, case: str
) -> None:
    with worker(2) as process:
        nodes = children(process.pid)
        waiting = tasks.wait.delay(case=case)
        (busy,) = wait_until(lambda: began(case), "it runs")
        process.kill()
        process.wait()
        (idle,) = set(nodes) - {busy}
        wait_until(lambda: not is_running(idle), "the idle node ends", 60)
        assert is_running(busy)
        go_on(case)
        wait_until(lambda: not is_running(busy), "the other ends after its task", 60)
    assert database.state(waiting.id) == "succeeded"
    assert database.effects(case) == 1


def test_a_cold_stop_does_not_wait_and_what_ran_comes_again(
    database: Database, tasks: Any, worker: Any, began: Any, go_on: Any, case: str
) -> None:
    with worker(1) as process:
        waiting = tasks.wait.delay(case=case)
        wait_until(lambda: began(case), "it runs")
        process.send_signal(signal.SIGQUIT)
        assert process.wait(60) == 0
    assert database.state(waiting.id) != "succeeded"
    go_on(case)
    with worker(1):
        database.until(waiting.id, "succeeded", 60)
    assert database.effects(case) == 1
