"""One deployment whose worker and services have the rights of their roles and no others."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import new_deployment
from tests.integration.celery_behaviour.effects import with_effects
from tests.integration.security.roles import Roles, drop_roles, make_roles

APPLICATION = "tests.integration.security.application"


@pytest.fixture(scope="package")
def roles(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Roles]:
    around = with_effects(
        new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("security"))
    )
    made = make_roles(reliable_stack, around)
    Database(around.database_url).rows("GRANT INSERT ON effects TO reliable_worker")
    yield made
    drop_roles(reliable_stack, made)


@pytest.fixture(scope="package")
def running(roles: Roles) -> Iterator[Any]:
    """The worker, beside the services, each as its own user."""
    services, worker = roles.as_("services"), roles.as_("worker")
    soon = {"RELIABLE_TASKS_SWEEP_GRACE": "1"}
    with services.services(APPLICATION, **soon), worker.worker(APPLICATION, "worker", "-c", "2") as process:
        yield process


@pytest.fixture(scope="package")
def database(roles: Roles) -> Iterator[Database]:
    """What is there, as the owner sees it."""
    found = Database(roles.around.database_url)
    yield found
    found.engine.dispose()


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"case{secrets.token_hex(4)}"
