"""Fixtures of the acceptance tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reliable_tasks.dev import Stack
from tests.acceptance.payments import APP, Bank, bank


@pytest.fixture
def running_bank(
    reliable_stack: Stack, fresh_vhost: str, fresh_database: str, tmp_path: Path
) -> Iterator[Bank]:
    """A fresh deployment; nothing runs in it yet."""
    environ = {
        **os.environ,
        "RELIABLE_TASKS_BROKER_URL": fresh_vhost,
        "RELIABLE_TASKS_DATABASE_URL": fresh_database,
        "RELIABLE_TASKS_MANAGEMENT_URL": reliable_stack.management_url,
        "RELIABLE_TASKS_APP": f"{APP}:app",
        "PYTHONWARNINGS": "ignore",
    }
    with bank(environ, fresh_database, tmp_path) as running:
        yield running
