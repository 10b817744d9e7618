"""The fixtures `reliable_stack`, `fresh_vhost` and `fresh_database`; a pytest plugin."""

import os
import secrets
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from reliable_tasks.dev import Stack, missing_services, throwaway_stack
from reliable_tasks.testing.names import left_by_the_dead, session_prefix

_STACK_FOLDER = os.environ.get("RELIABLE_TASKS_TEST_STACK")
"""Read at once: a test session may strip the environment of our variables."""

_FSYNC = os.environ.get("RELIABLE_TASKS_TEST_FSYNC") == "1"


@pytest.fixture(scope="session")
def installed_services() -> None:
    """RabbitMQ and Postgres are installed; else skipped, or failed where CI is set."""
    missing = missing_services()
    if missing:
        reason = "private services cannot be started: " + "; ".join(missing)
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def reliable_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """One private RabbitMQ and one private Postgres for the whole session."""
    if _STACK_FOLDER:
        stack = _shared(Path(_STACK_FOLDER))
        yield stack
        _remove(stack, session_prefix())
        return
    request.getfixturevalue("installed_services")
    with throwaway_stack(fsync=_FSYNC) as stack:
        yield stack


@pytest.fixture
def fresh_vhost(reliable_stack: Stack) -> Iterator[str]:
    """AMQP URL of an empty vhost of this test alone; gone afterwards."""
    name = _new_name("vhost")
    yield reliable_stack.create_vhost(name)
    if reliable_stack.broker.running:
        reliable_stack.delete_vhost(name)


@pytest.fixture(scope="session")
def migrated_template(reliable_stack: Stack) -> str:
    """Name of a database with the schema of the newest revision, to be copied."""
    name = _new_name("template")
    url = reliable_stack.create_database(name)
    # only here: tests of the services alone need no schema
    import_module("reliable_tasks.store.migrations").upgrade(url)
    return name


@pytest.fixture
def empty_database(reliable_stack: Stack) -> Iterator[str]:
    """URL of a database without any schema; gone afterwards."""
    yield from _database(reliable_stack, None)


@pytest.fixture
def fresh_database(reliable_stack: Stack, migrated_template: str) -> Iterator[str]:
    """URL of a migrated, empty database of this test alone; gone afterwards."""
    yield from _database(reliable_stack, migrated_template)


def _database(stack: Stack, template: str | None) -> Iterator[str]:
    name = _new_name("database")
    yield stack.create_database(name, template)
    if stack.database.running:
        stack.drop_database(name)


def _shared(folder: Path) -> Stack:
    stack = Stack.find(folder)
    if stack is None or not stack.status.running:
        pytest.fail(
            f"RELIABLE_TASKS_TEST_STACK names {folder}, where no services run; "
            f"start them: reliable-tasks dev up --folder {folder}",
            pytrace=False,
        )
    for name in left_by_the_dead(stack.database.databases.names()):
        stack.drop_database(name)
    for name in left_by_the_dead(stack.broker.management.vhosts()):
        stack.delete_vhost(name)
    return stack


def _remove(stack: Stack, prefix: str) -> None:
    if stack.database.running:
        for name in stack.database.databases.names():
            if name.startswith(prefix):
                stack.drop_database(name)


def _new_name(kind: str) -> str:
    return f"{session_prefix()}{kind}_{secrets.token_hex(4)}"
