"""Doctor: says what is kept and lost for the deployment at hand, with its evidence, and changes nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from tests.deployment import Deployment
from tests.programs import reliable_tasks
from tests.waiting import wait_until


@dataclass(frozen=True)
class Said:
    """What doctor answered."""

    exit_code: int
    told: str
    guarantees: dict[str, dict[str, Any]]
    checks: dict[str, dict[str, Any]]

    def verdict(self, name: str) -> str:
        found = {**self.guarantees, **self.checks}[name]["verdict"]
        return str(found)


@pytest.fixture
def environment(
    reliable_stack: Stack, fresh_vhost: str, fresh_database: str, tmp_path: Path
) -> dict[str, str]:
    return Deployment(fresh_vhost, reliable_stack.management_url, fresh_database, tmp_path).environment()


def doctor(environment: dict[str, str]) -> Said:
    done = reliable_tasks("doctor", "--output", "json", **environment)
    assert "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    return Said(
        done.returncode,
        done.stderr,
        {each["name"]: each for each in answer["guarantees"]},
        {each["name"]: each for each in answer["checks"]},
    )


def in_database(environment: dict[str, str], statement: str) -> Any:
    engine = create_engine(environment["RELIABLE_TASKS_DATABASE_URL"], isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


@pytest.mark.usefixtures("applied_shape")
def test_a_sound_deployment_keeps_what_its_disk_settings_allow(environment: dict[str, str]) -> None:
    safe = in_database(environment, "SHOW fsync") == in_database(environment, "SHOW full_page_writes") == "on"
    commits = in_database(environment, "SHOW synchronous_commit") != "off"
    said = doctor(environment)
    assert said.verdict("G2") == said.verdict("G5") == said.verdict("G7") == "kept"
    durable = "kept" if safe and commits else "lost"
    assert said.verdict("G1") == said.verdict("G3") == said.verdict("G4") == durable
    assert said.exit_code == (0 if durable == "kept" else 1)
    assert list(said.guarantees) == ["G1", "G2", "G3", "G4", "G5", "G6", "G7"]


@pytest.mark.usefixtures("applied_shape")
def test_sealing_is_said_not_to_be_there(environment: dict[str, str]) -> None:
    sealing = doctor(environment).guarantees["G6"]
    assert (sealing["verdict"], sealing["required"]) == ("not kept", False)
    assert "not part of this version" in sealing["evidence"]


def test_an_empty_vhost_loses_messages(environment: dict[str, str]) -> None:
    said = doctor(environment)
    assert said.exit_code == 1
    assert said.verdict("topology") == said.verdict("G1") == said.verdict("G5") == "lost"
    assert "is missing" in said.checks["topology"]["evidence"]
    assert "reliable-tasks topology apply" in said.told


def test_a_queue_that_drops_dead_letters_is_named(
    environment: dict[str, str], management: Management, fresh_vhost: str, channel: Any
) -> None:
    channel.queue_declare("default", durable=True, arguments={"x-queue-type": "quorum"})
    said = doctor(environment)
    assert said.verdict("dead lettering") == "lost"
    assert "default" in said.checks["dead lettering"]["evidence"]


@pytest.mark.usefixtures("applied_shape")
def test_an_undrained_dead_letter_queue_is_not_explained(
    environment: dict[str, str], management: Management, channel: Any
) -> None:
    channel.basic_publish("", "payments.dead", b"{}")
    wait_until(lambda: management.depths()["payments.dead"].messages == 1, "the dead letter is counted")
    said = doctor(environment)
    assert said.verdict("G5") == "lost"
    assert "payments.dead holds 1" in said.guarantees["G5"]["evidence"]


@pytest.mark.usefixtures("applied_shape")
def test_a_database_without_our_schema(environment: dict[str, str], empty_database: str) -> None:
    said = doctor({**environment, "RELIABLE_TASKS_DATABASE_URL": empty_database})
    assert said.exit_code == 1
    assert said.verdict("database revision") == said.verdict("G2") == "lost"
    assert "reliable-tasks db upgrade" in said.told


@pytest.mark.usefixtures("applied_shape")
def test_commits_that_a_crash_may_lose(environment: dict[str, str]) -> None:
    name = in_database(environment, "SELECT current_database()")
    in_database(environment, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    said = doctor(environment)
    assert said.exit_code == 1
    assert said.verdict("G4") == "lost"
    assert said.checks["synchronous_commit"]["evidence"] == "off"


@pytest.mark.usefixtures("applied_shape")
def test_an_outbox_that_nobody_relays(environment: dict[str, str]) -> None:
    in_database(
        environment,
        "INSERT INTO reliable_tasks.outbox "
        "(task_id, task_name, exchange, routing_key, queue, body, headers, properties, due_at) "
        "VALUES ('t', 'pay', '', '', 'payments', '', '{}', '{}', now() - interval '1 hour')",
    )
    said = doctor(environment)
    assert said.verdict("G2") == "lost"
    assert "no relay is running" in said.checks["outbox"]["evidence"]


def test_services_that_do_not_answer(environment: dict[str, str]) -> None:
    away = {
        **environment,
        "RELIABLE_TASKS_DATABASE_URL": "postgresql://u:S3CRET@127.0.0.1:1/d",
        "RELIABLE_TASKS_MANAGEMENT_URL": "http://127.0.0.1:1",
    }
    said = doctor(away)
    assert said.exit_code == 7
    assert {said.verdict(name) for name in ("G1", "G2", "G3", "G4", "G5")} == {"unknown"}
    assert "S3CRET" not in str(said)


@pytest.mark.usefixtures("applied_shape")
@pytest.mark.parametrize("output", ["table", "csv"])
def test_for_people_and_for_programs(environment: dict[str, str], output: str) -> None:
    done = reliable_tasks("doctor", "--output", output, **environment)
    assert "No effect twice." in done.stdout
    assert "not kept" in done.stdout
    assert ("looked at" in done.stdout) == (output == "table")
