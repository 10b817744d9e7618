"""One deployment for all bad input: a worker with two processes, beside the services."""

from collections.abc import Iterator
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment, new_deployment
from tests.integration.bad_input.sending import APPLICATION
from tests.integration.celery_behaviour.effects import with_effects


@pytest.fixture(scope="package")
def around(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    return with_effects(new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("bad")))


@pytest.fixture(scope="package")
def running(around: Deployment) -> Iterator[Any]:
    with around.services(APPLICATION), around.worker(APPLICATION, "main", "-c", "2") as process:
        yield process


@pytest.fixture(scope="package")
def database(around: Deployment) -> Database:
    return Database(around.database_url)
