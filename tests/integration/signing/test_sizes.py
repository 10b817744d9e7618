"""Messages that are too large: refused where they are sent, and a dead letter when they come all the same."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from reliable_tasks.errors import MessageTooLarge
from reliable_tasks.model.envelope import Message
from tests.database import Database
from tests.deployment import Deployment
from tests.integration.signing.senders import SIGNER, publish
from tests.waiting import wait_until

LARGE = "x" * 1024 * 1024


def test_what_is_too_large_is_not_sent(tasks: Any) -> None:
    with pytest.raises(MessageTooLarge, match="the limit is 1048576"):
        tasks.plain.delay(LARGE)


def test_an_enqueue_that_is_too_large_leaves_the_callers_transaction_usable(
    tasks: Any, around: Deployment, database: Database, unique: str
) -> None:
    with create_engine(around.database_url).begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS orders (name text)"))
        connection.execute(text("INSERT INTO orders VALUES (:name)"), {"name": unique})
        with pytest.raises(MessageTooLarge):
            tasks.app.enqueue(connection, tasks.plain.s(LARGE))
        tasks.app.enqueue(connection, tasks.plain.s(unique), task_id=unique)
    assert database.one("SELECT count(*) FROM orders WHERE name = :name", name=unique) == 1
    assert database.state(unique) is not None


def test_an_oversize_message_is_a_dead_letter_and_is_not_decoded(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, runs: Any
) -> None:
    headers = {"id": unique, "task": tasks.plain.name, "root_id": unique}
    properties = {"content_type": "application/json", "content_encoding": "utf-8"}
    body = json.dumps([[unique, LARGE], {}, {}]).encode()
    message = Message(unique, tasks.plain.name, "", "", "default", body, headers, properties)
    signed = SIGNER.sign(message, datetime.now(UTC))
    publish(around, "default", body, signed.headers, **properties)
    wait_until(lambda: database.dead_letter(unique), f"the dead letter of {unique}")
    row = database.dead_letter(unique)
    assert (row["reason"], len(row["body"])) == ("oversize", len(body))
    assert (database.state(unique), runs(unique)) == ("dead", 0)
    assert running.poll() is None


def test_a_message_of_protocol_1_is_not_decoded_to_see_what_it_is(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str
) -> None:
    body = json.dumps({"task": tasks.plain.name, "id": unique, "args": [unique], "kwargs": {}}).encode()
    publish(around, "default", body, {}, correlation_id=unique)
    query = "SELECT reason FROM reliable_tasks.dead_letters WHERE properties->>'correlation_id' = :id"
    database.wait_for(query, "unsigned", id=unique)
    assert database.state(unique) is None
