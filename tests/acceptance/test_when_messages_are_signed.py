"""Signing keys in the hands of senders and operators: rotation, other programs, what a replay must not make genuine."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pika
import pytest

from reliable_tasks.dev import Stack
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.signing import Key, Signer, Signing
from tests.acceptance.payments import APP, LEDGER
from tests.database import Database
from tests.deployment import Deployment, new_deployment
from tests.programs import ROOT
from tests.waiting import wait_until

OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))
KEYS = {"RELIABLE_TASKS_SIGNING_KEYS": f"new:{NEW},old:{OLD}"}
CALL = {"order_id": "", "account": "1", "amount": "1.00"}
PAY = "tests.acceptance.bank_app.pay"

SEND = """
import os, sys
from tests.acceptance.bank_app import app, pay, tell, fail
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
name = sys.argv[1]
pay.delay(order_id=name + "-direct", account="1", amount="1.00")
pay.apply_async(kwargs=dict(order_id=name + "-later", account="1", amount="1.00"), countdown=0.1)
(tell.si(name + "-first") | tell.si(name + "-second")).apply_async()
fail.delay(order_id=name + "-tried")
engine = create_engine(os.environ["RELIABLE_TASKS_DATABASE_URL"])
with Session(engine) as session, session.begin():
    app.enqueue(session, pay.s(order_id=name + "-outbox", account="1", amount="1.00"))
"""


class Signed:
    """A deployment with keys, and a plain client on its broker."""

    def __init__(self, around: Deployment) -> None:
        self.around = around
        self.database = Database(around.database_url)
        self.signer = Signer((Key("new", b"n" * 32),), Signing.REQUIRED)

    def publish(self, queue: str, headers: dict[str, Any], body: bytes, **more: Any) -> None:
        """As anybody who may write to the broker."""
        with closing(pika.BlockingConnection(pika.URLParameters(self.around.broker_url))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            given = {"content_type": "application/json", "content_encoding": "utf-8", **more}
            properties = pika.BasicProperties(headers=headers, delivery_mode=2, **given)
            channel.basic_publish("", queue, body, properties, mandatory=True)

    def honest(self, name: str, **headers: Any) -> Message:
        """A signed payment in the queue of payments, not sent yet."""
        body = json.dumps([[], {**CALL, "order_id": name}, {}]).encode()
        given = {"id": name, "task": PAY, "retries": 0, **headers}
        properties = {"content_type": "application/json", "content_encoding": "utf-8"}
        message = Message(name, PAY, "", "", "payments", body, given, properties)
        return self.signer.sign(message, datetime.now(UTC))

    def dead(self, task_id: str) -> dict[str, Any]:
        """The dead letter of a message with this id in its headers, collected."""
        query = "SELECT * FROM reliable_tasks.dead_letters WHERE headers->>'id' = :id AND collected_at IS NOT NULL"
        return wait_until(lambda: self.database.rows(query, id=task_id), f"the dead letter of {task_id}")[0]

    def effects(self, name: str) -> int:
        return int(self.database.one("SELECT count(*) FROM bank.effects WHERE order_id = :n", n=name))

    def operate(self, *words: str, **variables: str) -> Any:
        return self.around.python(
            "-m",
            "reliable_tasks.cli.main",
            *words,
            **{**KEYS, "RELIABLE_TASKS_APP": f"{APP}:app", **variables},
        )


@pytest.fixture(scope="module")
def signing(
    reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Signed]:
    around = new_deployment(reliable_stack, migrated_template, tmp_path_factory.mktemp("signing"))
    found = Signed(around)
    found.database.rows(LEDGER)
    with around.services(APP, **KEYS), around.worker(APP, "worker", "-c", "2", **KEYS):
        yield found
    found.database.engine.dispose()


def refused(signing: Signed, task_id: str, reason: str) -> dict[str, Any]:
    """It is a dead letter of that reason, it ran nothing, and no task's row knows of it."""
    row = signing.dead(task_id)
    assert (row["reason"], row["state"]) == (reason, "open")
    assert row["task_id"].startswith("unverified-")
    assert signing.effects(task_id) == 0
    assert signing.database.result(task_id) == {}
    same = "SELECT count(*) FROM reliable_tasks.dead_letters WHERE headers->>'id' = :id"
    assert signing.database.one(same, id=task_id) == 1
    return row


def test_a_copy_that_a_cc_header_sends_to_another_queue_is_refused_there(signing: Signed) -> None:
    message = signing.honest("copied")
    signing.publish("payments", {**message.headers, "CC": ["notifications"]}, message.body)
    row = signing.dead("copied")
    assert (row["reason"], row["queue"]) == ("bad_signature", "notifications")
    signing.database.until("copied", "succeeded")
    assert signing.effects("copied") == 1


def test_a_sender_with_the_old_key_is_believed_and_one_with_an_unknown_key_is_not(signing: Signed) -> None:
    for name, keys in (("rotated", f"old:{OLD}"), ("unknown", f"new:{OLD}")):
        done = signing.around.python("-c", SEND, name, RELIABLE_TASKS_SIGNING_KEYS=keys)
        assert done.returncode == 0, done.stderr
    wait_until(lambda: signing.effects("rotated-direct") == 1, "the payment signed with the old key")
    refusals = (
        "SELECT count(*) FROM reliable_tasks.dead_letters WHERE reason = 'bad_signature' AND"
        " encode(body, 'escape') LIKE '%unknown-%'"
    )
    signing.database.wait_for(refusals, 5)  # the second of the chain was never sent
    assert signing.database.one("SELECT count(*) FROM bank.effects WHERE order_id LIKE 'unknown-%'") == 0


def test_a_forged_message_that_no_worker_could_check_is_not_made_genuine_by_a_replay(
    signing: Signed,
) -> None:
    message = signing.honest("unseen")
    forged = {**message.headers, "task": "tests.acceptance.bank_app.no_such_task"}
    signing.publish("payments", forged, message.body)
    row = refused(signing, "unseen", "bad_signature")
    done = signing.operate("dead-letters", "replay", str(row["id"]), "--yes")
    assert "--vouch" in done.stdout + done.stderr


def test_the_foreign_producer_of_the_documentation_is_believed(signing: Signed, tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs/signing.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "foreign.py").write_text(example.group(1))
    program = (
        "import sys, pika, foreign\n"
        "channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()\n"
        f"print(foreign.send(channel, 'payments', '{PAY}', 'foreign', '1', '1.00'))\n"
    )
    sent = signing.around.python("-c", program, signing.around.broker_url, PYTHONPATH=str(tmp_path), **KEYS)
    assert sent.returncode == 0, sent.stderr
    signing.database.until(sent.stdout.strip(), "succeeded")
    assert signing.effects("foreign") == 1


def test_no_program_shows_a_key_and_doctor_says_which_one_signs(signing: Signed) -> None:
    shown = signing.operate("config", "show")
    examined = signing.operate("doctor")
    everything = shown.stdout + shown.stderr + examined.stdout + examined.stderr
    assert "signed with key new" in examined.stdout + examined.stderr, examined.stdout
    rows = signing.database.rows(
        "SELECT headers::text || coalesce(traceback, '') AS t FROM reliable_tasks.dead_letters"
    )
    everything += (
        signing.around.log("worker") + signing.around.log("services") + "".join(row["t"] for row in rows)
    )
    assert NEW[:16] not in everything
    assert "n" * 16 not in everything
    off = signing.operate("doctor", RELIABLE_TASKS_SIGNING_KEYS="")
    assert "whoever may publish" in off.stdout + off.stderr
