"""What a real worker writes while a task runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.deployment import Deployment
from tests.waiting import wait_until

APPLICATION = "tests.integration.logging_application"
SEND = f"from {APPLICATION} import say; print(say.delay('hello').id)"

Logged = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def logged(deployment: Deployment) -> Iterator[Logged]:
    with ExitStack() as workers:

        def run(expected: int, **variables: str) -> tuple[str, list[str]]:
            """The task's id, and the lines that name the word, once there are as many as expected."""
            # people's own logging need not say when the worker is ready
            command = ("celery", "-A", APPLICATION, "worker", "-c", "1", "-l", "INFO")
            workers.enter_context(deployment.program("worker", *command, **variables))
            sent = deployment.python("-c", SEND)
            assert sent.returncode == 0, sent.stderr

            def lines() -> list[str]:
                found = [line for line in deployment.log("worker").splitlines() if "hello" in line]
                return found if len(found) >= expected else []

            return sent.stdout.strip(), wait_until(lines, f"{expected} lines that say hello", 60)

        yield run


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
