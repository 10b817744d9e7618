"""Celery's programs: pools, beat, a broker user without rights, a broker without queues."""

import signal
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment
from tests.integration.celery_behaviour.effects import APPLICATION, with_effects
from tests.waiting import wait_until

CALLER = f"""
import sys
from {APPLICATION} import app, add, pay, tick
print(add.delay(2, 3).get(timeout=20), pay.delay(sys.argv[1]).get(timeout=20)["order"])
later = add.apply_async((3, 4), countdown=0.1)
print(later.get(timeout=20))
"""
OWN_REPLY_QUEUES = (
    r"^(celery\\.pidbox|reply\\.celery\\.pidbox|.*\\.celery\\.pidbox|.*\\.reply\\.celery\\.pidbox)$"
).replace("\\\\", "\\")


@pytest.fixture
def apart(deployment: Deployment) -> Deployment:
    """A vhost and a database of this test alone."""
    return with_effects(deployment)


def call(around: Deployment, code: str, *arguments: str, **variables: str) -> str:
    """What a program of its own prints."""
    done = around.python("-c", code, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_user(stack: Stack, around: Deployment, name: str, configure: str) -> Deployment:
    """The same place, for a broker user with these rights."""
    parts = urlsplit(around.broker_url)
    vhost = parts.path[1:]
    user = f"{vhost}_{name}"
    stack.create_user(user, "secret", vhost, configure, ".*", ".*")
    return replace(around, broker_url=f"amqp://{user}:secret@{parts.hostname}:{parts.port}/{vhost}")


@pytest.mark.parametrize("pool", ["threads", "solo", "prefork"])
def test_each_pool_runs_and_settles_and_ends_when_told(apart: Deployment, unique: str, pool: str) -> None:
    with apart.services(APPLICATION), apart.worker(APPLICATION, pool, "-P", pool, "-c", "4") as process:
        assert call(apart, CALLER, unique).split() == ["5", unique, "7"]
        process.send_signal(signal.SIGTERM)
        # `docker stop` kills after ten seconds
        assert process.wait(8) == 0
    assert Database(apart.database_url).effects(unique) == 1
    assert "Traceback" not in apart.log(pool)


def test_many_threads_in_transactions_at_once(apart: Deployment, unique: str) -> None:
    names = [f"{unique}{number}" for number in range(12)]
    send = f"from {APPLICATION} import pay_slowly; [pay_slowly.delay(name) for name in {names!r}]"
    with apart.services(APPLICATION), apart.worker(APPLICATION, "threads", "-P", "threads", "-c", "12"):
        call(apart, send)
        wait_until(lambda: all((apart.place / f"{name}-began").exists() for name in names), "all run", 20)
        for name in names:
            (apart.place / f"{name}-go").touch()
        database = Database(apart.database_url)
        wait_until(lambda: [database.effects(name) for name in names] == [1] * 12, "all have committed", 20)


def test_a_broker_user_who_may_configure_nothing(
    reliable_stack: Stack, apart: Deployment, unique: str
) -> None:
    limited, off = as_user(reliable_stack, apart, "plain", "^$"), {"BEHAVIOUR_REMOTE_CONTROL": "0"}
    with limited.services(APPLICATION, **off), limited.worker(APPLICATION, "limited", "-c", "2", **off):
        assert call(limited, CALLER, unique, **off).split() == ["5", unique, "7"]
    assert "ACCESS_REFUSED" not in limited.log("limited")
    assert "403" not in limited.log("services")


def test_remote_control_needs_only_its_own_reply_queues(
    reliable_stack: Stack, apart: Deployment, unique: str
) -> None:
    limited = as_user(reliable_stack, apart, "control", OWN_REPLY_QUEUES)
    with limited.services(APPLICATION), limited.worker(APPLICATION, "controlled", "-c", "1"):
        assert call(limited, CALLER, unique).split() == ["5", unique, "7"]
        code = f"from {APPLICATION} import app; print(app.control.ping(timeout=3))"
        assert "pong" in call(limited, code)


def test_a_worker_refuses_a_broker_without_queues(
    reliable_stack: Stack, fresh_vhost: str, fresh_database: str, tmp_path: Any
) -> None:
    empty = Deployment(fresh_vhost, reliable_stack.management_url, fresh_database, tmp_path)
    code, lines = refusal(empty)
    assert code == 1
    assert lines[0].startswith("error[RT204]: the broker lacks the queues")
    assert lines[1:] == ["hint: run `reliable-tasks topology apply`"]


def test_a_worker_refuses_a_database_without_the_schema(
    reliable_stack: Stack, fresh_vhost: str, empty_database: str, tmp_path: Any
) -> None:
    empty = Deployment(fresh_vhost, reliable_stack.management_url, empty_database, tmp_path)
    code, lines = refusal(empty)
    assert code == 1
    assert lines[0].startswith("error[RT203]")
    assert lines[1:] == ["hint: run `reliable-tasks db upgrade`"]


@pytest.mark.parametrize("pool", ["solo", "prefork", "threads"])
def test_it_ends_with_every_pool(
    reliable_stack: Stack, fresh_vhost: str, fresh_database: str, tmp_path: Any, pool: str
) -> None:
    empty = Deployment(fresh_vhost, reliable_stack.management_url, fresh_database, tmp_path)
    assert refusal(empty, "-P", pool)[0] == 1


def refusal(around: Deployment, *options: str) -> tuple[int, list[str]]:
    """The exit code of a worker that refuses to start, and what it wrote to standard error."""
    # Celery warns everybody who is root
    command = ("-m", "celery", "-A", APPLICATION, "worker", "-c", "1", *options)
    done = around.python(*command, PYTHONWARNINGS="ignore")
    return done.returncode, done.stderr.strip().splitlines()


def test_a_warm_shutdown_lets_the_running_task_end(apart: Deployment, unique: str) -> None:
    database, ended = Database(apart.database_url), apart.place / f"{unique}-ended"
    with apart.services(APPLICATION):
        with apart.worker(APPLICATION, "first", "-c", "1") as process:
            sent = call(apart, f"from {APPLICATION} import hold; print(hold.delay({unique!r}).id)").strip()
            wait_until(lambda: (apart.place / f"{unique}-began").exists(), "the task runs")
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Warm shutdown" in apart.log("first"), "the worker stops")
            (apart.place / f"{unique}-go").touch()
            assert process.wait(30) == 0
        assert database.state(sent) == "succeeded"
        with apart.worker(APPLICATION, "second", "-c", "1"):
            assert call(apart, CALLER, unique).split() == ["5", unique, "7"]
    assert len(ended.read_text().splitlines()) == 1


def test_beat_sends_our_tasks(tasks: Any, around: Deployment, marks: Any, tmp_path: Any) -> None:
    schedule = ("-s", str(tmp_path / "schedule"), "--pidfile", str(tmp_path / "pid"))
    with around.program("beat", "celery", "-A", APPLICATION, "beat", "-l", "INFO", *schedule):
        wait_until(lambda: marks.count("tick-beat") >= 2, "two ticks")
    assert "Traceback" not in around.log("beat")
