"""One deployment with keys: worker, services, and the application in this process."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pika
import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment, new_deployment
from tests.integration.signing.senders import APPLICATION, KEYS


@pytest.fixture(scope="package")
def around(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    found = new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("signing"))
    return replace(found, variables={"RELIABLE_TASKS_SIGNING_KEYS": KEYS})


@pytest.fixture(scope="package")
def running(around: Deployment) -> Iterator[Any]:
    """The worker, beside the services. It does not read `notifications`."""
    with (
        around.services(APPLICATION),
        around.worker(APPLICATION, "main", "-c", "2", "-Q", "payments,default") as process,
    ):
        yield process


@pytest.fixture(scope="package")
def tasks(around: Deployment) -> Any:
    """The application's module, in this process, for the same vhost and database."""
    return around.imported(APPLICATION)


@pytest.fixture(scope="package")
def database(around: Deployment) -> Database:
    return Database(around.database_url)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"case{secrets.token_hex(4)}"


@pytest.fixture
def runs(around: Deployment) -> Any:
    """How often a task has run."""

    def count(name: str) -> int:
        path = around.place / name
        return path.stat().st_size if path.exists() else 0

    return count


@pytest.fixture
def channel_of() -> Iterator[Any]:
    """A channel to a deployment's broker, closed at the end."""
    with ExitStack() as stack:

        def open_channel(around: Deployment) -> Any:
            connection = pika.BlockingConnection(pika.URLParameters(around.broker_url))
            return stack.enter_context(closing(connection)).channel()

        yield open_channel
