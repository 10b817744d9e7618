"""One worker, one set of services, one vhost and one database for all tests of Celery's behaviour."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment, new_deployment
from tests.integration.celery_behaviour.effects import APPLICATION, with_effects


@pytest.fixture(scope="package")
def around(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    return with_effects(
        new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("behaviour"))
    )


@pytest.fixture(scope="package")
def running(around: Deployment) -> Iterator[Any]:
    """The worker with four processes, beside the services."""
    with around.services(APPLICATION), around.worker(APPLICATION, "main", "-c", "4") as process:
        yield process


@pytest.fixture(scope="package")
def declared(around: Deployment) -> Any:
    """The application's module, in this process, for the same vhost and database."""
    return around.imported(APPLICATION)


@pytest.fixture
def tasks(declared: Any, running: Any) -> Any:
    """The tasks, with the worker running."""
    return declared


@pytest.fixture(scope="package")
def database(around: Deployment) -> Database:
    return Database(around.database_url)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"case{secrets.token_hex(4)}"


@pytest.fixture
def marks(around: Deployment) -> Any:
    """How often a task has left a mark, and leaving one for a task."""

    class Marks:
        def count(self, name: str) -> int:
            path = around.place / name
            return len(path.read_text().splitlines()) if path.exists() else 0

        def leave(self, name: str, text: str = "x") -> None:
            (around.place / name).write_text(text)

        def pid(self, name: str) -> int:
            return int((around.place / name).read_text().split()[0])

    return Marks()
