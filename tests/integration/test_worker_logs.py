"""What a real worker writes while a task runs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from tests.integration.applied_topology import TOPOLOGY, applied
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
APP = "tests.integration.logging_application:app"
SEND = "from tests.integration.logging_application import say; print(say.delay('hello').id)"

Logged = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def logged(
    reliable_stack: Stack, fresh_vhost: str, fresh_database: str, management: Management, tmp_path: Path
) -> Iterator[Logged]:
    applied(TOPOLOGY, management, fresh_vhost)
    workers: list[subprocess.Popen[bytes]] = []

    def run(expected: int, *options: str, **variables: str) -> tuple[str, list[str]]:
        """The task's id, and the lines that name the word, once there are as many as expected."""
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RELIABLE_TASKS_", "CELERY"))},
            "PYTHONPATH": str(ROOT),
            "RELIABLE_TASKS_BROKER_URL": fresh_vhost,
            "RELIABLE_TASKS_DATABASE_URL": fresh_database,
            "RELIABLE_TASKS_MANAGEMENT_URL": reliable_stack.management_url,
            **variables,
        }
        out = tmp_path / "worker.log"
        with out.open("wb") as file:
            program = [sys.executable, "-m", "celery", "-A", APP, "worker", "-c", "1", "-l", "INFO", *options]
            workers.append(
                subprocess.Popen(program, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
            )
        sent = subprocess.run(
            [sys.executable, "-c", SEND],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

        def lines() -> list[str]:
            found = [line for line in out.read_text().splitlines() if "hello" in line]
            return found if len(found) >= expected else []

        return sent.stdout.strip(), wait_until(lines, f"{expected} lines that say hello", 60)

    yield run
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(timeout=20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def the_running_task(line: dict[str, Any]) -> tuple[Any, Any, Any]:
    return line["task_id"], line["idempotency_key"], line["attempt"]


def test_json_carries_task_key_and_attempt(logged: Logged) -> None:
    task_id, lines = logged(3, RELIABLE_TASKS_LOG_FORMAT="json")
    events = {line["event"]: line for line in map(json.loads, lines)}
    for event in ("plain hello", "celery's hello", "structured"):
        assert the_running_task(events[event]) == (task_id, "say:hello", 1)


def test_people_read_the_same(logged: Logged) -> None:
    task_id, lines = logged(3)
    assert any(f"plain hello task_id={task_id} idempotency_key=say:hello attempt=1" in line for line in lines)


def test_a_users_own_logging_is_left_alone(logged: Logged) -> None:
    _, lines = logged(3, OWN_LOGGING="1")
    assert "OWN plain hello" in lines
    assert any(line.startswith("OWN structured") and "attempt=1" in line for line in lines)


def test_celerys_format_when_asked_for(logged: Logged) -> None:
    _, lines = logged(3, RELIABLE_TASKS_LOG_FORMAT="celery")
    assert any("WARNING/ForkPoolWorker-1] plain hello" in line for line in lines)
