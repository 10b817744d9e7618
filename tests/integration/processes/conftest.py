"""One deployment for all tests of workers with several processes, and such workers on it."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment, new_deployment
from tests.programs import Process
from tests.waiting import wait_until

APPLICATION = "tests.integration.processes.application"
WORKER = ("reliable_tasks.cli.main", "worker", "-A", f"{APPLICATION}:app")


@pytest.fixture(scope="package")
def around(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    made = new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("processes"))
    Database(made.database_url).rows("CREATE TABLE effects (key text NOT NULL)")
    return made


@pytest.fixture(scope="package")
def database(around: Deployment) -> Database:
    return Database(around.database_url)


@pytest.fixture(scope="package")
def tasks(around: Deployment) -> Any:
    """The application's module, in this process."""
    return around.imported(APPLICATION)


@pytest.fixture
def case() -> str:
    """A name that no other test uses."""
    return f"case{secrets.token_hex(4)}"


@pytest.fixture
def worker(around: Deployment, case: str) -> Callable[..., AbstractContextManager[Process]]:
    """A worker of so many processes, all of them ready; what it says is in the log of the case's name."""

    @contextmanager
    def running(count: int, *options: str) -> Iterator[Process]:
        command = (*WORKER, "--processes", str(count), "-l", "INFO", *options)
        with around.program(case, *command) as process:
            wait_until(lambda: around.log(case).count(" ready.") >= count, "all nodes are ready", 90)
            yield process

    return running


@pytest.fixture
def began(around: Deployment) -> Callable[[str], list[int]]:
    """The processes in which the task of this case has begun."""

    def pids(case: str) -> list[int]:
        path = around.place / f"began-{case}"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    return pids


@pytest.fixture
def go_on(around: Deployment) -> Callable[[str], None]:
    """Let the task of this case end."""
    return lambda case: (around.place / f"go-{case}").touch()


def children(pid: int) -> list[int]:
    """The processes that this one has started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()
