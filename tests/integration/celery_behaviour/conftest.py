"""One worker, one set of services, one vhost and one database for all tests of Celery's behaviour."""

import os
import secrets
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.testing.names import session_prefix
from tests.integration.applied_topology import TOPOLOGY, applied
from tests.integration.celery_behaviour.running import APPLICATION, Database, Surroundings, program, worker


def surroundings(stack: Stack, template: str, place: Path) -> Surroundings:
    """A new vhost with the topology and a new migrated database with a table for effects."""
    name = f"{session_prefix()}behaviour_{secrets.token_hex(4)}"
    broker_url = stack.create_vhost(name)
    database_url = stack.create_database(name, template)
    applied(TOPOLOGY, Management(stack.management_url, broker_url), broker_url)
    Database(database_url).rows("CREATE TABLE effects (key text NOT NULL, attempt int NOT NULL)")
    return Surroundings(broker_url, stack.management_url, database_url, place)


@pytest.fixture(scope="session")
def around(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Surroundings:
    return surroundings(reliable_stack, migrated_template, tmp_path_factory.mktemp("behaviour"))


@pytest.fixture(scope="session")
def services(around: Surroundings) -> Iterator[Any]:
    command = ("reliable_tasks.cli.main", "services", "-A", f"{APPLICATION}:app")
    with program(around, "services", *command) as process:
        yield process


@pytest.fixture(scope="session")
def running(around: Surroundings, services: Any) -> Iterator[Any]:
    """The worker with four processes, beside the services."""
    with worker(around, "main", "-c", "4") as process:
        yield process


@pytest.fixture(scope="session")
def declared(around: Surroundings) -> Any:
    """The application's module, in this process, for the same vhost and database."""
    before = dict(os.environ)
    os.environ.update(around.environment())
    try:
        module = import_module(APPLICATION)
        module.app.finalize()
        # while the environment names them
        _ = module.app.backend, module.app.runtime.engine, module.app.runtime.publisher
        module.app.conf.broker_url = around.broker_url
        return module
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def tasks(declared: Any, running: Any) -> Any:
    """The tasks, with the worker running."""
    return declared


@pytest.fixture(scope="session")
def database(around: Surroundings) -> Database:
    return Database(around.database_url)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"case{secrets.token_hex(4)}"


@pytest.fixture
def marks(around: Surroundings) -> Any:
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
