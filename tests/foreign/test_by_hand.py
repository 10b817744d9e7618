"""Messages written by hand with pika, in version 2 of Celery's protocol, run like the application's own.

https://docs.celeryq.dev/en/stable/internals/protocol.html#version-2
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.foreign.conftest import Running, Start
from tests.integration.signing.senders import APPLICATION, KEYS

PAY, PLAIN = f"{APPLICATION}.pay", f"{APPLICATION}.plain"


def send(running: Running, queue: str, body: Any, headers: dict[str, Any], **properties: Any) -> None:
    """Publish and nothing else, confirmed."""
    with closing(pika.BlockingConnection(pika.URLParameters(running.around.broker_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        given = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        message = pika.BasicProperties(headers=headers, delivery_mode=2, **given)
        channel.basic_publish("", queue, json.dumps(body).encode(), message, mandatory=True)


def whole(task: str, task_id: str) -> dict[str, Any]:
    """Every header that the protocol describes."""
    return {
        "lang": "go",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "meth": "",
        "shadow": "a producer by hand",
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "('...',)",
        "kwargsrepr": "{}",
        "origin": "77@elsewhere",
        "replaced_task_nesting": 0,
    }


@pytest.fixture(scope="module")
def accepting(started: Start) -> Iterator[Running]:
    with started(RELIABLE_TASKS_SIGNING_KEYS=KEYS, RELIABLE_TASKS_SIGNING="accept-unsigned") as running:
        yield running


@pytest.mark.parametrize("mode", ["without_keys", "accepting"])
def test_an_unsigned_message_runs_where_none_must_be_signed(
    mode: str, request: pytest.FixtureRequest, unique: str
) -> None:
    running = request.getfixturevalue(mode)
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    send(running, "payments", [[unique], {}, embed], whole(PAY, unique), correlation_id=unique, reply_to="me")
    send(running, "payments", [[], {"order": unique}, embed], whole(PAY, f"{unique}-again"))
    running.database.until(unique, "succeeded")
    again = running.database.until(f"{unique}-again", "duplicate")
    assert again["duplicate_of"] == unique
    assert running.runs(unique) == 1, "the same key has one effect, whoever sends it"


def test_two_headers_are_enough(without_keys: Running, unique: str) -> None:
    send(without_keys, "default", [[unique], {}, None], {"task": PLAIN, "id": unique})
    row = without_keys.database.until(unique, "succeeded")
    assert (row["name"], row["args"], row["queue"]) == (PLAIN, [unique], "default")


def test_what_a_foreign_task_shall_start_runs_too(without_keys: Running, unique: str) -> None:
    after = {"task": PLAIN, "args": [f"{unique}-after"], "kwargs": {}, "immutable": True}
    follow = {"callbacks": [{**after, "options": {"task_id": f"{unique}-after"}}]}
    send(without_keys, "default", [[unique], {}, follow], whole(PLAIN, unique))
    without_keys.database.until(f"{unique}-after", "succeeded")
    assert (without_keys.runs(unique), without_keys.runs(f"{unique}-after")) == (1, 1)


def test_an_unsigned_message_is_refused_where_all_must_be_signed(with_keys: Running, unique: str) -> None:
    send(with_keys, "payments", [[unique], {}, None], whole(PAY, unique))
    refused_as_unsigned(with_keys, unique)


def test_a_message_signed_by_the_documented_recipe_runs(
    with_keys: Running, unique: str, recipe: Callable[[str], Path]
) -> None:
    program = (
        "import sys, pika, signing\n"
        "channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()\n"
        "print(signing.send(channel, 'payments', *sys.argv[2:]))\n"
    )
    folder = str(recipe("python").parent)
    sent = with_keys.around.python("-c", program, with_keys.around.broker_url, PAY, unique, PYTHONPATH=folder)
    assert sent.returncode == 0, sent.stderr
    with_keys.database.until(sent.stdout.strip(), "succeeded")
    assert with_keys.runs(unique) == 1


def refused_as_unsigned(running: Running, task_id: str) -> None:
    """Nothing ran, and an operator sees which message was refused, and why."""
    query = "SELECT reason FROM reliable_tasks.dead_letters WHERE headers->>'id' = :id AND collected_at IS NOT NULL"
    running.database.wait_for(query, "unsigned", id=task_id)
    command = ("-m", "reliable_tasks.cli.main", "dead-letters", "list", "--reason", "unsigned")
    listed = running.around.python(*command, "--output", "json")
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert PAY in {row["task_name"] for row in rows}, listed
    assert running.runs(task_id) == 0
    assert running.database.state(task_id) is None
