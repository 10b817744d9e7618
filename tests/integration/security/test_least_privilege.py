"""Each role can do its work with the rights that deploy/ gives to it, and nothing beside."""

import json
from contextlib import closing
from datetime import timedelta
from typing import Any

import pika
import pika.exceptions
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from reliable_tasks.broker.dead_letter_source import DeadLetterSource
from reliable_tasks.errors import TopologyDrift
from reliable_tasks.store import key_retention
from tests.database import Database
from tests.deployment import Deployment
from tests.integration.security.conftest import APPLICATION
from tests.integration.security.roles import DATABASE_ROLES, GRANTS, Roles
from tests.waiting import wait_until

HISTORY = ("attempts", "operator_actions", "deletion_receipts", "suppressed_deliveries")

PRODUCE = f"""
import os, sys
from celery import chord, group
from sqlalchemy import create_engine
from {APPLICATION} import app, echo, fail, note, pay, refuse, tell, total
name = sys.argv[1]
print(pay.delay(name).get(timeout=30), tell.delay(name + "-told").get(timeout=30))
later = note.apply_async((name + "-later",), countdown=0.1)
with create_engine(os.environ["RELIABLE_TASKS_DATABASE_URL"]).begin() as connection:
    sent = app.enqueue(connection, pay.s(name + "-enqueued"), task_id=name + "-own-id")
print(later.get(timeout=30), sent.get(timeout=30))
parts = group(echo.s(1), echo.s(2)).apply_async()
parts.save()
print(parts.get(timeout=30), chord([echo.s(3), echo.s(4)], total.s()).delay().get(timeout=60))
print(fail.delay(name).get(timeout=30, propagate=False))
later.forget()
refuse.apply_async((name + "-refused",), task_id=name + "-refused")
print(pay.apply_async((name,), countdown=3600, task_id=name + "-waits").id)
"""


def command(around: Deployment, *words: str, code: int = 0) -> str:
    done = around.python("-m", "reliable_tasks.cli.main", *words, RELIABLE_TASKS_APP=f"{APPLICATION}:app")
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout


def test_every_role_does_its_work(running: Any, roles: Roles, database: Database, unique: str) -> None:
    produced = roles.as_("producer").python("-c", PRODUCE, unique)
    assert produced.returncode == 0, produced.stderr
    told = ["[1, 2] 7", f"no {unique}", f"{unique}-waits"]
    assert produced.stdout.splitlines() == [
        f"{unique} {unique}-told",
        f"{unique}-later {unique}-enqueued",
        *told,
    ]
    assert database.effects(unique) == 1

    operator = roles.as_("operator")
    database.until(f"{unique}-refused", "dead")
    row = wait_until(lambda: database.dead_letter(f"{unique}-refused"), "its dead letter")
    command(operator, "topology", "plan", "--detailed-exitcode")
    command(operator, "dead-letters", "replay", str(row["id"]), "--yes")
    database.until(f"{unique}-refused", "succeeded")
    command(operator, "tasks", "cancel", f"{unique}-waits", "--yes")
    assert database.state(f"{unique}-waits") == "cancelled"
    told = operator.python(
        "-m", "reliable_tasks.cli.main", "doctor", "--output", "json", RELIABLE_TASKS_APP=f"{APPLICATION}:app"
    )
    # the tests' own Postgres may be without fsync, which is no question of rights
    bad = {
        each["name"] for each in json.loads(told.stdout)["checks"] if each["verdict"] in ("lost", "unknown")
    }
    assert bad <= {"fsync"}, told.stdout

    auditor = roles.as_("auditor")
    for words in (("results", "list"), ("results", "stats"), ("dead-letters", "groups")):
        command(auditor, *words)
    shown = command(auditor, "results", "timeline", f"{unique}-refused", "--output", "json")
    assert "PermanentError" in shown
    for name in ("worker", "services"):
        log = roles.around.log(name)
        assert "ACCESS_REFUSED" not in log
        assert "permission denied" not in log, name


def test_the_exporter_needs_no_right_to_change_anything(running: Any, roles: Roles) -> None:
    code = (
        "from reliable_tasks.observe.endpoint import MetricsEndpoint\n"
        "from reliable_tasks.settings import load_settings\n"
        "from urllib.request import urlopen\n"
        "with MetricsEndpoint(load_settings()) as endpoint: print(urlopen(endpoint.url).read().decode())\n"
    )
    scraped = roles.as_("exporter").python("-c", code)
    assert scraped.returncode == 0, scraped.stderr
    lines = [line for line in scraped.stdout.splitlines() if not line.startswith("#")]
    assert any(line.startswith("reliable_tasks_results") for line in lines), scraped.stdout
    assert any("queue=" in line for line in lines), scraped.stdout
    assert "permission" not in scraped.stderr


def test_the_sweeper_sends_again_and_forgets_keys_as_services(
    running: Any, roles: Roles, database: Database, unique: str
) -> None:
    hours = "now() - interval '3 hours'"
    database.rows(
        "INSERT INTO reliable_tasks.claims"
        " (task_name, key, fingerprint, task_id, state, may_have_acted, owner, lease_until, first_seen)"
        f" VALUES ('t', :id, '', :id, 'running', 1, gen_random_uuid(), {hours}, now()),"
        f" ('t', :id || '-old', '', :id, 'succeeded', 0, NULL, NULL, {hours})",
        id=unique,
    )
    database.rows(
        "INSERT INTO reliable_tasks.leased_messages (task_name, key, task_id, queue, body, headers, properties)"
        " VALUES ('t', :id, :id, 'default', '', '{\"id\": \"x\", \"task\": \"t\"}', '{}')",
        id=unique,
    )
    wait_until(lambda: database.attempts(unique), "it is sent again")
    old = "SELECT count(*) FROM reliable_tasks.claims WHERE key = :key"
    engine = roles.engine("services")
    with engine.begin() as connection:
        assert key_retention.forget(connection, timedelta(hours=2), 10) in (0, 1)
    engine.dispose()
    assert database.one(old, key=f"{unique}-old") == 0
    acted = "SELECT actor FROM reliable_tasks.operator_actions WHERE subject = :id"
    assert database.one(acted, id=unique) == "sweeper"


@pytest.mark.parametrize("role", DATABASE_ROLES)
@pytest.mark.parametrize("table", HISTORY)
def test_no_role_changes_history(roles: Roles, role: str, table: str) -> None:
    for statement in (
        f"UPDATE reliable_tasks.{table} SET id = id",
        f"DELETE FROM reliable_tasks.{table}",
        f"TRUNCATE reliable_tasks.{table}",
        f"ALTER TABLE reliable_tasks.{table} DISABLE TRIGGER ALL",
        f"DROP TABLE reliable_tasks.{table}",
    ):
        denied(roles, role, statement)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("producer", "SELECT 1 FROM reliable_tasks.claims"),
        ("producer", "SELECT 1 FROM reliable_tasks.dead_letters"),
        ("producer", "SELECT body FROM reliable_tasks.outbox"),
        ("producer", "UPDATE reliable_tasks.results SET state = 'succeeded'"),
        ("producer", "DELETE FROM reliable_tasks.results"),
        ("producer", "INSERT INTO reliable_tasks.attempts (task_id, name, attempt, state) VALUES ('', '', 1, 'lost')"),
        ("worker", "DELETE FROM reliable_tasks.claims"),
        ("worker", "DELETE FROM reliable_tasks.results"),
        ("worker", "DELETE FROM reliable_tasks.dead_letters"),
        ("worker", "DELETE FROM reliable_tasks.outbox"),
        ("worker", "INSERT INTO reliable_tasks.operator_actions (actor, action, subject) VALUES ('', '', '')"),
        ("worker", "CREATE TABLE reliable_tasks.mine (x int)"),
        ("worker", "UPDATE reliable_tasks.legal_holds SET released_at = now()"),
        ("services", "DELETE FROM reliable_tasks.dead_letters"),
        ("operator", "INSERT INTO reliable_tasks.attempts (task_id, name, attempt, state) VALUES ('', '', 1, 'lost')"),
        ("operator", "INSERT INTO reliable_tasks.deletion_receipts (result_id, task_id, state, content_sha256)"
                     " VALUES (gen_random_uuid(), '', '', '')"),
        ("operator", "DELETE FROM reliable_tasks.results"),
        ("operator", "DELETE FROM reliable_tasks.dead_letters"),
    ],
)  # fmt: skip
def test_a_role_does_no_others_work(roles: Roles, role: str, statement: str) -> None:
    denied(roles, role, statement)


def test_an_auditor_only_reads(roles: Roles, database: Database) -> None:
    query = (
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
        " WHERE grantee = 'reliable_auditor' AND table_schema = 'reliable_tasks'"
    )
    granted = database.rows(query)
    assert {row["privilege_type"] for row in granted} == {"SELECT"}
    tables = database.rows(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'reliable_tasks'"
    )
    assert {row["table_name"] for row in granted} == {row["table_name"] for row in tables}


def test_a_new_table_is_granted_to_somebody_or_named_as_nobodys(database: Database) -> None:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'reliable_tasks'"
    tables = {row["tablename"] for row in database.rows(query)}
    unnamed = {table for table in tables if f"reliable_tasks.{table}" not in GRANTS}
    assert unnamed == {"deletion_receipts", "legal_holds"}, (
        "written by a function of the owner, and by nobody yet"
    )


def test_a_result_under_legal_hold_stays_and_one_that_is_not_leaves_a_receipt(
    roles: Roles, database: Database, unique: str
) -> None:
    for name in ("held", "free"):
        database.rows(
            "INSERT INTO reliable_tasks.results (id, task_id, state, finished_at)"
            " VALUES (gen_random_uuid(), :id, 'succeeded', now())",
            id=f"{unique}-{name}",
        )
    database.rows(
        "INSERT INTO reliable_tasks.legal_holds (task_id, reason, placed_by) VALUES (:id, 'r', 'p')",
        id=f"{unique}-held",
    )
    engine = roles.engine("operator")
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM reliable_tasks.celery_taskmeta WHERE task_id LIKE :like"),
            {"like": f"{unique}-%"},
        )
    engine.dispose()
    assert database.state(f"{unique}-held") == "succeeded"
    assert database.state(f"{unique}-free") is None
    query = "SELECT deleted_by FROM reliable_tasks.deletion_receipts WHERE task_id = :id"
    assert database.one(query, id=f"{unique}-free") == roles.names["operator"]


def denied(roles: Roles, role: str, statement: str) -> None:
    engine = roles.engine(role)
    try:
        with pytest.raises(DBAPIError) as raised, engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
    assert getattr(raised.value.orig, "pgcode", None) == "42501", (role, statement, raised.value)


DENIED_ON_THE_BROKER = [
    *((role, "declare", "new") for role in ("producer", "worker", "services", "exporter")),
    *((role, "delete", "payments.dead") for role in ("producer", "worker", "services", "exporter")),
    *((role, "purge", "payments.dead") for role in ("producer", "worker", "exporter")),
    *((role, "publish", "") for role in ("producer", "worker", "services", "exporter")),
    *((role, "publish", "dead-letters") for role in ("producer", "services", "exporter")),
    ("exporter", "publish", "commands"),
    *((role, "get", "payments") for role in ("producer", "services", "exporter")),
    *((role, "get", "payments.dead") for role in ("producer", "worker", "exporter")),
]


@pytest.mark.parametrize(("role", "act", "on"), DENIED_ON_THE_BROKER)
def test_the_broker_refuses_what_is_no_business_of_a_role(roles: Roles, role: str, act: str, on: str) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(roles.as_(role).broker_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            {
                "declare": lambda: channel.queue_declare(on, durable=True),
                "delete": lambda: channel.queue_delete(on),
                "purge": lambda: channel.queue_purge(on),
                "publish": lambda: channel.basic_publish(on, "default", b"", mandatory=True),
                "get": lambda: channel.basic_get(on),
            }[act]()
    assert refused.value.reply_code == 403


def test_a_collector_that_may_not_read_a_queue_says_which_right_is_missing(roles: Roles) -> None:
    source = DeadLetterSource(roles.as_("worker").broker_url, ["payments.dead"])
    with closing(source), pytest.raises(TopologyDrift, match=r"payments\.dead'.* refused for user") as told:
        source.take(1)
    assert "`read`" in (told.value.hint or "")


def test_a_role_sees_no_other_vhost(roles: Roles) -> None:
    url = roles.as_("worker").broker_url.rpartition("/")[0] + "/%2F"
    with pytest.raises(pika.exceptions.AMQPError):
        pika.BlockingConnection(pika.URLParameters(url))


def test_what_nobody_may_make_of_a_message_is_kept_all_the_same(
    running: Any, roles: Roles, database: Database, unique: str
) -> None:
    """The worker's user may send a copy to the dead letters: the one thing that it writes beside commands."""
    death: dict[str, Any] = {"queue": "default", "reason": "rejected", "count": "x"}
    headers = {"id": unique, "task": f"{APPLICATION}.note", "x-death": [death]}
    with closing(pika.BlockingConnection(pika.URLParameters(roles.as_("producer").broker_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(headers=headers, content_type="application/json", delivery_mode=2)
        channel.basic_publish("commands", "default", json.dumps([[], {}, {}]).encode(), properties)
    query = "SELECT reason FROM reliable_tasks.dead_letters WHERE headers->>'id' = :id"
    database.wait_for(query, "undecodable", id=unique)
