"""One deployment with worker and services for all tests here, and one in which nothing runs."""

from collections.abc import Iterator

import pytest

from reliable_tasks.dev import Stack
from tests.deployment import Deployment, new_deployment
from tests.integration.operating.operator import APPLICATION, Operator


@pytest.fixture
def idle(deployment: Deployment) -> Operator:
    """A deployment of one test, in which nothing runs."""
    return Operator(deployment)


@pytest.fixture(scope="package")
def operator(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The deployment with a worker and the services; each test has orders of its own."""
    around = new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("operating"))
    found = Operator(around)
    with around.services(APPLICATION), around.worker(APPLICATION, "worker", "-c", "2"):
        yield found
