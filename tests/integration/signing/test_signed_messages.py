"""With keys: everything of ours is signed and runs; what is not signed, or for another queue, runs never."""

import gzip
from typing import Any

import pytest
from celery import chain
from sqlalchemy import create_engine

from reliable_tasks.model.signing import SIGNATURE
from tests.database import Database
from tests.deployment import Deployment
from tests.integration.signing.senders import APPLICATION, body_of, capture, publish
from tests.waiting import wait_until


def refused(database: Database, claimed: str, reason: str) -> dict[str, Any]:
    """The dead letter of a message that claims to be this task, when it is there."""
    query = "SELECT * FROM reliable_tasks.dead_letters WHERE headers->>'id' = :id AND reason = :reason"
    wait_until(lambda: database.rows(query, id=claimed, reason=reason), f"{reason} of {claimed}", 30)
    (row,) = database.rows(query, id=claimed, reason=reason)
    assert row["task_id"].startswith("unverified-")
    assert database.state(row["task_id"]) is None
    return row


def headers(task: Any, task_id: str, **more: Any) -> dict[str, Any]:
    return {"id": task_id, "task": task.name, "root_id": task_id, **more}


def test_everything_that_an_application_sends_is_signed_and_runs(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any
) -> None:
    sent = [
        tasks.pay.apply_async((f"{unique}-now",), priority=1),
        tasks.pay.apply_async((f"{unique}-later",), countdown=0.3),
        tasks.flaky.delay(f"{unique}-retried"),
        tasks.plain.apply_async((f"{unique}-plain",), expires=60),
        chain(tasks.plain.s(f"{unique}-first"), tasks.plain.si(f"{unique}-second"))(),
    ]
    engine = create_engine(around.database_url)
    with engine.begin() as connection:
        sent.append(tasks.app.enqueue(connection, tasks.pay.s(f"{unique}-enqueued")))
    for result in sent:
        database.until(result.id, "succeeded")
    assert runs(f"{unique}-retried") == 2
    assert runs(f"{unique}-second") == 1


def test_an_unsigned_message_is_a_dead_letter_and_is_not_run(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any
) -> None:
    publish(around, "payments", body_of(unique), headers(tasks.pay, unique))
    row = refused(database, unique, "unsigned")
    assert (row["queue"], row["task_name"], row["state"]) == ("payments", tasks.pay.name, "open")
    assert (runs(unique), database.state(unique)) == (0, None)
    listed = around.python(
        "-m", "reliable_tasks.cli.main", "dead-letters", "list", "--reason", "unsigned", "--output", "json"
    )
    assert row["task_id"] in listed.stdout


def test_a_message_for_one_queue_is_refused_in_another(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any
) -> None:
    body, signed, properties = capture(lambda: tasks.notify.apply_async((unique,), task_id=unique))
    publish(around, "payments", body, signed, **properties)
    refused(database, unique, "bad_signature")
    assert (runs(unique), database.state(unique)) == (0, None)


def test_a_routing_key_does_not_make_another_queue_of_it(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any, channel_of: Any
) -> None:
    body, signed, properties = capture(lambda: tasks.notify.apply_async((unique,), task_id=unique))
    channel = channel_of(around)
    channel.exchange_declare("detour", "fanout", auto_delete=True)
    channel.queue_bind("payments", "detour")
    publish(around, "notifications", body, signed, exchange="detour", **properties)
    channel.exchange_delete("detour")
    assert refused(database, unique, "bad_signature")["queue"] == "payments"
    assert runs(unique) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"task": "plain"},
        {"retries": 3},
        {"expires": "2099-01-01T00:00:00+00:00"},
        {"eta": "2020-01-01T00:00:00+00:00"},
        {"timelimit": [1, 1]},
        {"group": "another"},
        {"rt-replay": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_header_is_refused(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any, change: Any
) -> None:
    body, signed, properties = capture(lambda: tasks.pay.apply_async((unique,), task_id=unique))
    if "task" in change:
        change = {"task": tasks.plain.name}
    publish(around, "payments", body, {**signed, **change}, **properties)
    refused(database, unique, "bad_signature")
    assert runs(unique) == 0


def test_a_forged_message_does_not_end_the_task_whose_id_it_has(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any
) -> None:
    waiting = tasks.pay.apply_async((unique,), countdown=2, task_id=unique)
    forged = headers(tasks.pay, unique, expires="2020-01-01T00:00:00+00:00")
    publish(around, "payments", body_of(unique), forged)
    publish(around, "payments", b"no json", headers(tasks.pay, unique, timelimit=[1, None]))
    publish(around, "payments", body_of(unique), {**forged, "task": "no.such.task"})
    query = (
        "SELECT count(*) FROM reliable_tasks.dead_letters WHERE headers->>'id' = :id AND reason = 'unsigned'"
    )
    database.wait_for(query, 3, id=unique)
    database.until(waiting.id, "succeeded")
    assert runs(unique) == 1


def test_an_operator_can_vouch_for_an_unsigned_message(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any
) -> None:
    publish(around, "payments", body_of(unique), headers(tasks.pay, unique))
    number = str(refused(database, unique, "unsigned")["id"])
    command = ("-m", "reliable_tasks.cli.main", "dead-letters", "replay", number, "--yes")
    alone = around.python(*command, RELIABLE_TASKS_APP=APPLICATION)
    assert "is not signed" in alone.stdout
    assert runs(unique) == 0
    vouched = around.python(*command, "--vouch", RELIABLE_TASKS_APP=APPLICATION)
    assert vouched.returncode == 0, vouched.stderr
    database.until(unique, "succeeded")
    assert database.dead_letter(unique)["state"] == "resolved"
    query = "SELECT details->>'vouched_for' FROM reliable_tasks.operator_actions WHERE subject = :id"
    assert database.one(query, id=unique) == "unsigned"


def test_a_dead_letter_that_was_signed_is_replayed_without_vouching(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any
) -> None:
    tasks.fail_once.apply_async((unique,), task_id=unique)
    database.until(unique, "dead")
    number = str(database.dead_letter(unique)["id"])
    command = ("-m", "reliable_tasks.cli.main", "dead-letters", "replay", number, "--yes")
    done = around.python(*command, RELIABLE_TASKS_APP=APPLICATION)
    assert done.returncode == 0, done.stdout + done.stderr
    database.until(unique, "succeeded")
    assert runs(unique) == 2


def test_a_compressed_body_is_not_unpacked(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str
) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    publish(around, "payments", bomb, headers(tasks.pay, unique, compression="application/x-gzip"))
    row = refused(database, unique, "unsigned")
    assert bytes(row["body"]) == bomb, "kept as it came"
    assert running.poll() is None


def test_signatures_are_made_by_the_first_key(tasks: Any, around: Deployment, unique: str) -> None:
    _, signed, _ = capture(lambda: tasks.pay.delay(unique))
    assert signed[SIGNATURE].startswith("v1.2026-a.")
