"""What all tests share: the private services, and an environment without anybody's settings."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from reliable_tasks.dev import Stack
from reliable_tasks.model.capabilities import Capabilities
from tests.deployment import Deployment, deployment_on

pytest_plugins = ["reliable_tasks.testing.services"]

_FOREIGN = ("RELIABLE_TASKS_", "CELERY_", "RABBITMQ_", "DB_", "REDIS_", "PG")
_HERE = Path(__file__).parent
_SHARING = {"integration": 2, "foreign": 1}
"""Folders whose tests, so deep in them, share what a conftest.py beside them starts."""

_BUSY = ("acceptance", "chaos")
"""Folders whose tests keep all processors busy: two of them at a time would only wait for each other."""

_OURS = ("RELIABLE_TASKS_RABBITMQ_SBIN", "RELIABLE_TASKS_POSTGRES_BIN", "RELIABLE_TASKS_TEST_")


# how long an example takes says something of the machine; the same examples in every CI run: new ones are looked for
# where somebody watches
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("untimed")


def pytest_configure() -> None:
    # after the plugin was imported, which has read what it needs
    for name in list(os.environ):
        if name.startswith(_FOREIGN) and not name.startswith(_OURS):
            del os.environ[name]


class _ByFixtures(LoadScopeScheduling):
    """Tests that share what runs for them stay in one process: a file's; a folder's that shares one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).relative_to(_HERE.name)
        kind = file.parts[0]
        if kind in _BUSY:
            return "busy"
        return str(file.parent if len(file.parts) > _SHARING.get(kind, len(file.parts)) else file)


# its own way, by marks, xdist no longer finds in the items of pytest 9.2, and says nothing
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByFixtures(config, log)


@pytest.fixture(scope="session")
def capabilities(reliable_stack: Stack) -> Capabilities:
    """What the broker under test can do."""
    return Capabilities.for_version(reliable_stack.rabbitmq_version)


@pytest.fixture(autouse=True)
def _needed_of_the_broker(request: pytest.FixtureRequest) -> None:
    """Skip a test whose marker `broker` wants other capabilities than the broker under test has."""
    marker = request.node.get_closest_marker("broker")
    if marker is None:
        return
    found = request.getfixturevalue("capabilities")
    for name, wanted in marker.kwargs.items():
        if getattr(found, name) != wanted:
            pytest.skip(f"{found.name}: {name} is {getattr(found, name)}, this is about {wanted}")


@pytest.fixture
def deployment(reliable_stack: Stack, fresh_vhost: str, fresh_database: str, tmp_path: Path) -> Deployment:
    """The topology and the schema, for one test; nothing runs there yet."""
    return deployment_on(reliable_stack, fresh_vhost, fresh_database, tmp_path)
