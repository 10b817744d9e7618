"""A vhost, a database, services and a worker for all tests of chords; and what the database saw being sent."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment, new_deployment

APPLICATION = "tests.integration.chords.application"

SEEN = """
CREATE TABLE seen (task_id text, task_name text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.seen VALUES (NEW.task_id, NEW.task_name); RETURN NULL; END $$;
CREATE TRIGGER seen AFTER INSERT ON reliable_tasks.outbox FOR EACH ROW EXECUTE FUNCTION see()
"""


class Sent(Database):
    """The tables, and what was ever written to the outbox."""

    def sent(self, task_id: str) -> int:
        """How often a message of this id was written."""
        return int(self.one("SELECT count(*) FROM seen WHERE task_id = :id", id=task_id))

    def chord_of(self, part: str) -> dict[str, Any]:
        query = (
            "SELECT c.* FROM reliable_tasks.chords c JOIN reliable_tasks.chord_parts p USING (group_id)"
            " WHERE p.task_id = :id"
        )
        (found,) = self.rows(query, id=part)
        return found


def seen_by_the_database(around: Deployment) -> Sent:
    """Its database notes every row of the outbox from now on."""
    database = Sent(around.database_url)
    database.rows(SEEN)
    return database


@pytest.fixture(scope="package")
def around(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Deployment:
    return new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("chords"))


@pytest.fixture(scope="package")
def database(around: Deployment) -> Sent:
    return seen_by_the_database(around)


@pytest.fixture(scope="package")
def tasks(around: Deployment, database: Sent) -> Iterator[Any]:
    """The tasks, with services and a worker of two processes."""
    with around.services(APPLICATION), around.worker(APPLICATION, "main", "-c", "2"):
        yield around.imported(APPLICATION)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"chord{secrets.token_hex(4)}"


@pytest.fixture
def marks(around: Deployment) -> Any:
    """How often a task has left a mark."""
    return lambda name: (
        len((around.place / name).read_text().splitlines()) if (around.place / name).exists() else 0
    )
