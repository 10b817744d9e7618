"""Deployments for producers that are not ours: without keys, and where every message must be signed."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment, new_deployment
from tests.integration.signing.senders import APPLICATION, KEYS


@dataclass(frozen=True)
class Running:
    """A worker and the services of one deployment, and what tests read of it."""

    around: Deployment
    database: Database

    def runs(self, name: str) -> int:
        """How often the task has run that leaves marks under this name."""
        path = self.around.place / name
        return path.stat().st_size if path.exists() else 0


Start = Callable[..., Iterator[Running]]


@pytest.fixture(scope="package")
def started(reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Start:
    @contextmanager
    def start(**variables: str) -> Iterator[Running]:
        made = new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("foreign"))
        around = replace(made, variables=variables)
        with around.services(APPLICATION), around.worker(APPLICATION, "worker", "-c", "1"):
            running = Running(around, Database(around.database_url))
            yield running
            running.database.engine.dispose()

    return start


@pytest.fixture(scope="package")
def without_keys(started: Start) -> Iterator[Running]:
    with started() as running:
        yield running


@pytest.fixture(scope="package")
def with_keys(started: Start) -> Iterator[Running]:
    with started(RELIABLE_TASKS_SIGNING_KEYS=KEYS) as running:
        yield running


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"case{secrets.token_hex(4)}"


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    """The documentation's example in one language, as a file."""
    from tests.foreign.documentation import example

    def written(language: str) -> Path:
        path = tmp_path / f"signing.{ {'python': 'py', 'javascript': 'js'}[language] }"
        path.write_text(example(language))
        return path

    return written
