"""One deployment with worker and services for all tests here, and one in which nothing runs."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.testing.names import session_prefix
from tests.integration.applied_topology import TOPOLOGY, applied
from tests.integration.celery_behaviour.running import Database, Surroundings, program, worker
from tests.integration.operating.operator import APPLICATION, Operator

SERVICES = ("reliable_tasks.cli.main", "services", "-A", f"{APPLICATION}:app")


def deployment(stack: Stack, broker_url: str, database_url: str, place: Path) -> Operator:
    """Topology, schema, accounts and effects."""
    applied(TOPOLOGY, Management(stack.management_url, broker_url), broker_url)
    database = Database(database_url)
    database.rows("CREATE TABLE accounts (id text PRIMARY KEY, balance numeric(20, 2) NOT NULL)")
    database.rows("CREATE TABLE effects (key text NOT NULL)")
    return Operator(Surroundings(broker_url, stack.management_url, database_url, place), database)


@pytest.fixture
def idle(reliable_stack: Stack, fresh_vhost: str, fresh_database: str, tmp_path: Path) -> Operator:
    """A deployment of one test, in which nothing runs."""
    return deployment(reliable_stack, fresh_vhost, fresh_database, tmp_path)


@pytest.fixture(scope="session")
def operator(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The deployment with a worker and the services; each test has orders of its own."""
    name = f"{session_prefix()}operating_{secrets.token_hex(4)}"
    found = deployment(
        reliable_stack,
        reliable_stack.create_vhost(name),
        reliable_stack.create_database(name, migrated_template),
        tmp_path_factory.mktemp("operating"),
    )
    with (
        program(found.around, "services", *SERVICES),
        worker(found.around, "worker", "-c", "2", application=APPLICATION),
    ):
        yield found
