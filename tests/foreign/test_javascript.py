"""A Celery client from npm sends tasks: unsigned, and signed by the documented recipe; `make test-javascript`."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.foreign.conftest import Running
from tests.foreign.test_by_hand import PAY, PLAIN, refused_as_unsigned
from tests.integration.signing.senders import KEYS
from tests.programs import ROOT, Done

FOLDER = ROOT / "tests/foreign/javascript"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").is_dir(),
    reason="`make test-javascript` installs the client and runs this; it needs node and npm",
)


def send(
    running: Running, queue: str, task: str, *args: object, signing: Path | None = None, **more: str
) -> Done:
    words = [queue, task, json.dumps(args), *([str(signing)] if signing else [])]
    environment = {"PATH": str(Path(str(shutil.which("node"))).parent), **more}
    return subprocess.run(
        ["node", str(FOLDER / "send.js"), *words],
        env={**environment, "BROKER_URL": running.around.broker_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sent(done: Done) -> str:
    """The id of the task that was sent."""
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_task_from_javascript_runs(without_keys: Running, unique: str) -> None:
    text = f"{unique} «äß€😀»"
    plain = sent(send(without_keys, "default", PLAIN, text))
    paid = sent(send(without_keys, "payments", PAY, unique))
    assert without_keys.database.until(plain, "succeeded")["args"] == [text]
    without_keys.database.until(paid, "succeeded")
    assert without_keys.runs(unique) == 1


def test_an_unsigned_one_is_refused_where_all_must_be_signed(with_keys: Running, unique: str) -> None:
    refused_as_unsigned(with_keys, sent(send(with_keys, "payments", PAY, unique)))
    assert with_keys.runs(unique) == 0


def test_one_signed_by_the_documented_recipe_runs(
    with_keys: Running, unique: str, recipe: Callable[[str], Path]
) -> None:
    signing = recipe("javascript")
    keys = {"RELIABLE_TASKS_SIGNING_KEYS": KEYS}
    task_id = sent(send(with_keys, "payments", PAY, f"{unique}-€", signing=signing, **keys))
    with_keys.database.until(task_id, "succeeded")
    assert with_keys.runs(f"{unique}-€") == 1


def test_one_signed_for_another_queue_is_refused(
    with_keys: Running, unique: str, recipe: Callable[[str], Path]
) -> None:
    elsewhere = recipe("javascript")
    elsewhere.write_text(elsewhere.read_text().replace("    queue,\n", '    "notifications",\n'))
    keys = {"RELIABLE_TASKS_SIGNING_KEYS": KEYS}
    task_id = sent(send(with_keys, "payments", PAY, unique, signing=elsewhere, **keys))
    query = "SELECT reason FROM reliable_tasks.dead_letters WHERE headers->>'id' = :id"
    with_keys.database.wait_for(query, "bad_signature", id=task_id)
    assert with_keys.runs(unique) == 0


def test_the_client_as_it_comes_is_told_that_the_queue_is_another(without_keys: Running) -> None:
    done = send(without_keys, "default", PLAIN, "x", STOCK="1")
    # RabbitMQ 4.1 and newer do not even speak to its own amqplib, which asks for frames that are too small
    assert "PRECONDITION" in done.stderr or "ECONNRESET" in done.stderr, done
