"""A deployment of one test, whose database has a table for effects."""

from typing import Any

import pytest

from tests.database import Database
from tests.deployment import Deployment

APPLICATION = "tests.integration.crashing.application"
SEND = f"""
import sys
from {APPLICATION} import app
print(app.tasks[f"{APPLICATION}.{{sys.argv[1]}}"].delay(*sys.argv[2:]).id)
"""


@pytest.fixture
def database(deployment: Deployment) -> Database:
    found = Database(deployment.database_url)
    found.rows("CREATE TABLE effects (key text NOT NULL)")
    return found


@pytest.fixture
def send(deployment: Deployment) -> Any:
    """Send a task by its name from a process of its own; returns its id."""

    def one(task: str, *arguments: str) -> str:
        sent = deployment.python("-c", SEND, task, *arguments)
        assert sent.returncode == 0, sent.stderr
        return sent.stdout.strip()

    return one
