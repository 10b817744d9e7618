"""A deployment of one test, into whose queue everything is sent before its worker starts."""

import json
from typing import Any

import pytest

from tests.database import Database
from tests.deployment import Deployment

APPLICATION = "tests.integration.together.application"
SEND = f"""
import json, sys
from {APPLICATION} import app
for task, case, number in json.loads(sys.argv[1]):
    print(app.tasks[f"{APPLICATION}.{{task}}"].delay(case=case, number=number).id)
"""


@pytest.fixture
def database(deployment: Deployment) -> Database:
    found = Database(deployment.database_url)
    found.rows("CREATE TABLE effects (key text NOT NULL)")
    return found


@pytest.fixture
def send(deployment: Deployment) -> Any:
    """Send tasks by name, case and number from a process of its own; returns their ids."""

    def all_of(*tasks: tuple[str, str, int]) -> list[str]:
        sent = deployment.python("-c", SEND, json.dumps(tasks))
        assert sent.returncode == 0, sent.stderr
        return sent.stdout.split()

    return all_of


@pytest.fixture(params=["prefork", "solo"])
def pool(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options of a worker that takes many tasks at a time."""
    return ("-P", request.param, "-c", "2")
