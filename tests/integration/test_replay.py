"""Dead letters in an operator's hands, with a real worker, real services and the real program."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from tests.integration.applied_topology import TOPOLOGY, applied
from tests.integration.celery_behaviour.running import ROOT, Database, Surroundings, program, worker
from tests.waiting import wait_until

APPLICATION = "tests.integration.replay_application"
SEND = """
import json, sys
from tests.integration import replay_application
name, priority, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[4])
task = getattr(replay_application, name)
print(task.apply_async(kwargs=json.loads(sys.argv[3]), priority=priority, **options).id)
"""


class Operator:
    """The program, as an operator calls it without a terminal."""

    def __init__(self, around: Surroundings, database: Database) -> None:
        self.around = around
        self.database = database

    def run(self, *command: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        done = self._python("-m", "reliable_tasks.cli.main", *command)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def rows(self, *command: str, code: int = 0) -> list[dict[str, Any]]:
        """The JSON lines that a command prints."""
        return [
            json.loads(line) for line in self.run(*command, "--output", "json", code=code).stdout.splitlines()
        ]

    def record(self, *command: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*command, "--output", "json").stdout)
        return found

    def send(
        self, task: str, priority: int = 0, options: dict[str, Any] | None = None, **arguments: str
    ) -> str:
        """Send a task from a process of its own; returns its id."""
        sent = self._python("-c", SEND, task, str(priority), json.dumps(arguments), json.dumps(options or {}))
        assert sent.returncode == 0, sent.stderr
        return sent.stdout.strip()

    def dead_letters(self, task_id: str) -> list[dict[str, Any]]:
        return self.database.rows(
            "SELECT * FROM reliable_tasks.dead_letters WHERE task_id = :id ORDER BY id", id=task_id
        )

    def open_one(self, task_id: str) -> int:
        """The id of the open dead letter of a task, when there is one."""

        def found() -> int | None:
            return next((row["id"] for row in self.dead_letters(task_id) if row["state"] == "open"), None)

        number = wait_until(found, f"an open dead letter of {task_id}", 30)
        assert number is not None
        return number

    def died_of_no_funds(self, order_id: str, **options: Any) -> tuple[str, int]:
        """A payment from an empty account: the task id and its dead letter."""
        self.database.rows("INSERT INTO accounts VALUES (:id, 0)", id=order_id)
        task_id = self.send("pay", order_id=order_id, account=order_id, amount="10.10", **options)
        return task_id, self.open_one(task_id)

    def fund(self, account: str) -> None:
        self.database.rows("UPDATE accounts SET balance = 100 WHERE id = :id", id=account)

    def _python(self, *command: str) -> "subprocess.CompletedProcess[str]":
        environment = self.around.environment(RELIABLE_TASKS_APP=f"{APPLICATION}:app")
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def idle(reliable_stack: Stack, fresh_vhost: str, fresh_database: str, tmp_path: Path) -> Operator:
    """A deployment in which nothing runs."""
    applied(TOPOLOGY, Management(reliable_stack.management_url, fresh_vhost), fresh_vhost)
    database = Database(fresh_database)
    database.rows("CREATE TABLE accounts (id text PRIMARY KEY, balance numeric(20, 2) NOT NULL)")
    database.rows("CREATE TABLE effects (key text NOT NULL)")
    return Operator(
        Surroundings(fresh_vhost, reliable_stack.management_url, fresh_database, tmp_path), database
    )


@pytest.fixture
def operator(idle: Operator) -> Iterator[Operator]:
    """A deployment with a worker and the services."""
    services = ("reliable_tasks.cli.main", "services", "-A", f"{APPLICATION}:app")
    with (
        program(idle.around, "services", *services),
        worker(idle.around, "worker", "-c", "2", application=APPLICATION),
    ):
        yield idle


def test_an_unfunded_payment_is_funded_and_replayed_and_paid_once(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o1", priority=2)

    (listed,) = operator.rows("dead-letters", "list")
    assert (listed["id"], listed["reason"], listed["task_id"]) == (number, "permanent", task_id)
    shown = operator.record("dead-letters", "show", str(number))
    assert "no funds" in shown["exception_message"]
    assert [attempt["state"] for attempt in shown["task_attempts"]] == ["failed"]
    assert operator.rows("dead-letters", "groups")[0]["count"] == 1

    operator.fund("o1")
    (preview,) = operator.rows("dead-letters", "replay", str(number), "--dry-run")
    assert preview["outcome"] == "would be replayed"
    assert operator.dead_letters(task_id)[0]["state"] == "open"

    (done,) = operator.rows("dlq", "replay", str(number), "--because", "account funded", "--yes")
    assert (done["outcome"], done["replay"], done["task_id"]) == ("replayed", 1, task_id)
    (again,) = operator.rows("dlq", "replay", str(number), "--yes")
    assert again["outcome"] == "nothing"

    result = operator.database.until(task_id, "succeeded")
    assert (result["replay"], result["attempt"], result["priority"]) == (1, 1, 2)
    assert operator.database.effects("o1") == 1
    assert [row["state"] for row in operator.dead_letters(task_id)] == ["resolved"]
    (again,) = operator.rows("dlq", "replay", str(number), "--yes")
    assert again["outcome"] == "nothing"
    assert operator.database.rows("SELECT * FROM reliable_tasks.outbox") == []

    events = operator.rows("results", "timeline", task_id)
    assert [event["event"] for event in events if event["event"] != "suppressed"] == [
        "enqueued", "started", "failed", "dead", "dead_letter.replay", "started", "succeeded", "resolved",
    ]  # fmt: skip
    (act,) = operator.record("dead-letters", "show", str(number))["operator_actions"]
    assert act["reason"] == "account funded"
    assert act["actor"].endswith("(unverified)")


def test_a_replay_that_dies_again_is_a_new_dead_letter(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o2")
    operator.run("dead-letters", "replay", str(number), "--yes")
    second = operator.open_one(task_id)
    assert [(row["state"], row["replay"]) for row in operator.dead_letters(task_id)] == [
        ("dead_again", 0),
        ("open", 1),
    ]
    assert operator.database.state(task_id) == "dead"

    (refused,) = operator.rows("dead-letters", "replay", str(number), "--yes", code=1)
    assert "dead_again" in refused["detail"]
    operator.fund("o2")
    (done,) = operator.rows("dead-letters", "replay", "--reason", "permanent", "--yes")
    assert (done["dead_letter"], done["replay"]) == (second, 2)
    operator.database.until(task_id, "succeeded")
    assert operator.database.effects("o2") == 1
    assert [row["state"] for row in operator.dead_letters(task_id)] == ["dead_again", "resolved"]


def test_a_discarded_payment_is_never_paid(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o3")
    operator.run("dead-letters", "discard", str(number), "--yes", code=2)
    (done,) = operator.rows("dead-letters", "discard", str(number), "--because", "order withdrawn", "--yes")
    assert done["outcome"] == "discarded"
    assert operator.database.result(task_id)["reason"] == "order withdrawn"
    assert operator.database.state(task_id) == "discarded"
    (claim,) = operator.database.rows("SELECT state FROM reliable_tasks.claims")
    assert claim["state"] == "discarded"

    operator.fund("o3")
    (refused,) = operator.rows("dead-letters", "replay", str(number), "--yes", code=1)
    assert refused["outcome"] == "refused"
    other = operator.send("pay", order_id="o3", account="o3", amount="10.10")
    number = operator.open_one(other)
    (refused,) = operator.rows("dead-letters", "replay", str(number), "--yes", code=1)
    assert "discarded" in refused["detail"]
    assert operator.database.effects("o3") == 0


def test_what_a_replay_could_do_twice_is_refused_with_the_reason(operator: Operator) -> None:
    uncertain = operator.open_one(operator.send("call", order_id="o4"))
    task_id, _ = operator.died_of_no_funds("o5")
    conflict = operator.open_one(operator.send("pay", order_id="o5", account="o5", amount="99.00"))
    operator.fund("o5")

    told = {
        row["dead_letter"]: row for row in operator.rows("dead-letters", "replay", "--all", "--yes", code=3)
    }
    assert told[uncertain]["outcome"] == told[conflict]["outcome"] == "refused"
    assert "may have happened" in told[uncertain]["detail"]
    assert "another payload" in told[conflict]["detail"]
    operator.database.until(task_id, "succeeded")
    assert operator.database.effects("o5") == 1
    assert operator.rows("dead-letters", "replay", "999", "--yes", code=1)[0]["outcome"] == "refused"


def test_another_task_of_a_dead_key_is_replayed_and_gives_its_result_to_duplicates(
    operator: Operator,
) -> None:
    first, first_number = operator.died_of_no_funds("o6")
    second = operator.send("pay", order_id="o6", account="o6", amount="10.10")
    operator.fund("o6")
    operator.run("dead-letters", "replay", str(operator.open_one(second)), "--yes")
    operator.database.until(second, "succeeded")
    operator.run("dead-letters", "replay", str(first_number), "--yes")
    result = operator.database.until(first, "duplicate")
    assert (result["duplicate_of"], bytes(result["result"])) == (second, b'"o6"')
    assert operator.database.effects("o6") == 1
    assert [row["state"] for row in operator.dead_letters(first)] == ["resolved"]


def test_a_plain_task_keeps_its_brackets_in_tables(operator: Operator) -> None:
    task_id = operator.send("plain", account="A1")
    number = operator.open_one(task_id)
    assert "[red]A1[/red] is not valid" in operator.run("dead-letters", "list").stdout
    operator.run("dead-letters", "replay", str(number), "--yes")
    operator.open_one(task_id)
    assert [row["state"] for row in operator.dead_letters(task_id)] == ["dead_again", "open"]


def test_nothing_is_done_unasked(operator: Operator) -> None:
    task_id, number = operator.died_of_no_funds("o7")
    for command in (
        ("dead-letters", "replay", str(number)),
        ("dead-letters", "discard", str(number), "--because", "x"),
        ("tasks", "cancel", task_id),
    ):
        done = operator.run(*command, code=1)
        assert "hint: give --yes" in done.stderr
    assert operator.dead_letters(task_id)[0]["state"] == "open"
    operator.run("dead-letters", "replay", "--yes", code=2)


def test_statistics_and_results(operator: Operator) -> None:
    task_id, _ = operator.died_of_no_funds("o8")
    (counted,) = operator.rows("results", "stats")
    assert (counted["state"], counted["count"]) == ("dead", 1)
    (listed,) = operator.rows("results", "list", "--state", "dead", "--key", "pay:o8")
    assert listed["task_id"] == task_id
    assert operator.record("results", "show", task_id)["exception_type"] == "PermanentError"
    assert "RT501" in operator.run("results", "show", "nobody", code=1).stderr
    assert "RT501" in operator.run("results", "timeline", "nobody", code=1).stderr
