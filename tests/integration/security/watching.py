"""Everything that a deployment says and keeps, while it runs with secrets that can be found again."""

import os
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pika
from sqlalchemy import text

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment
from tests.integration.security.canaries import Canary
from tests.programs import ROOT, Process, program
from tests.waiting import wait_until

APP = "tests.integration.security.talkative"


@dataclass
class Watched:
    """A deployment, its secrets, and everything that was seen of it, by where it was seen."""

    stack: Stack
    around: Deployment
    place: Path
    canaries: dict[str, Canary]
    variables: dict[str, str]
    seen: dict[str, bytes] = field(default_factory=dict)

    def run(self, *command: str, given: str = "", **more: str) -> str:
        """Run a program to its end and remember what it said."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.variables, **more},
            input=given.encode(),
            capture_output=True,
            timeout=120,
            check=False,
        )
        self.seen[f"{' '.join(command)[:120]} {sorted(more)}"] = done.stdout + done.stderr
        return done.stdout.decode()

    def start(self, stack: ExitStack, name: str, *command: str) -> Process:
        return stack.enter_context(program(self.place / f"{name}.log", *command, **self.variables))

    def log(self, name: str) -> str:
        path = self.place / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


def secret_variables(
    way: str, user: str, around: Deployment, given: dict[str, Canary], place: Path
) -> dict[str, str]:
    """The settings with the secrets in them, or with the names of files that hold them."""
    broker, database = urlsplit(around.broker_url), urlsplit(around.database_url)
    keys = f"k:{given['key'].text},{'old'}:{given['old key'].text}"
    common = {
        "RELIABLE_TASKS_MANAGEMENT_URL": around.management_url,
        "TESTS_PLACE": str(place),
        "RELIABLE_TASKS_LOG_FORMAT": "console" if way == "files" else "celery",
    }
    if way == "environment":
        who = {name: f"{user}:{quote(given[name].text, safe='')}" for name in ("broker", "database")}
        return {
            **common,
            "RELIABLE_TASKS_BROKER_URL": f"amqp://{who['broker']}@{broker.hostname}:{broker.port}{broker.path}",
            "RELIABLE_TASKS_DATABASE_URL":
                f"postgresql://{who['database']}@{database.hostname}:{database.port}{database.path}",
            "RELIABLE_TASKS_SIGNING_KEYS": keys,
        }  # fmt: skip
    folder = place / "secrets"
    folder.mkdir()
    for name, value in (
        ("broker", given["broker"].text),
        ("database", given["database"].text),
        ("keys", keys),
    ):
        (folder / name).write_text(value)
    return {
        **common,
        "RABBITMQ_HOST": str(broker.hostname),
        "RABBITMQ_PORT": str(broker.port),
        "RABBITMQ_USER": user,
        "RABBITMQ_PASSWORD_FILE": str(folder / "broker"),
        "RABBITMQ_VHOST": broker.path[1:],
        "DB_HOST": str(database.hostname),
        "DB_PORT": str(database.port),
        "DB_USER": user,
        "DB_PASSWORD_FILE": str(folder / "database"),
        "DB_NAME": database.path[1:],
        "RELIABLE_TASKS_SIGNING_KEYS_FILE": str(folder / "keys"),
    }


def live(watched: Watched, owner: Database, *, environ: bool) -> None:
    with ExitStack() as stack:
        listening = ("-Q", "payments,default", "-c", "2", "-l", "DEBUG", "-n", "talker@%h", "-E")
        processes = [
            watched.start(stack, "worker", "reliable_tasks.cli.main", "worker", "-A", f"{APP}:app", *listening),
            watched.start(stack, "services", "reliable_tasks.cli.main", "services", "-A", f"{APP}:app"),
            watched.start(stack, "exporter", "reliable_tasks.cli.main", "exporter", "--port", "0"),
            watched.start(
                stack, "beat", "celery", "-A", APP, "beat", "-l", "DEBUG",
                "-s", str(watched.place / "schedule"), "--pidfile", "",
            ),
        ]  # fmt: skip
        wait_until(lambda: "ready." in watched.log("worker"), "the worker", 60)
        wait_until(lambda: "http://" in watched.log("exporter"), "the exporter", 60)
        sent = watched.run("-c", SEND).split()
        owner.until(sent[0], "succeeded", 60)
        owner.wait_for(
            "SELECT count(*) >= 3 FROM reliable_tasks.dead_letters WHERE collected_at IS NOT NULL", True
        )
        watched.run(*COMMANDS, "look")
        if not environ:  # what is wrong is given by the environment, whatever else is
            _with_wrong_secrets(watched)
        _look_at_processes(watched, processes, environ=environ)
        _look_at_services(watched, owner)
    for path in watched.place.rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            watched.seen[str(path.relative_to(watched.place))] = path.read_bytes()
    for path in watched.stack.folder.rglob("*.log"):
        watched.seen[str(path)] = path.read_bytes()


SEND = f"""
from {APP} import app, break_down, confess, say, unheard
print(say.delay("said").id, confess.delay("confessed").id, break_down.delay("broken").id)
unheard.delay()
say.apply_async(("later",), countdown=3600)
say.apply_async(("many",), expires=1, priority=1, headers={{"x-more": "text"}})
try:
    say.apply_async(("x",), queue="nowhere")
except Exception as error:
    print(repr(error))
"""


COMMANDS = ("-X", "faulthandler", "-m", "tests.integration.security.commands")


def _with_wrong_secrets(watched: Watched) -> None:
    """Wrong passwords, and settings that cannot be read with a password in them."""
    wrong, key = watched.canaries["wrong"].text, watched.canaries["wrong key"].text
    user = "nobody:" + quote(wrong, safe="")
    broker, database = _port(watched.around.broker_url), _port(watched.around.database_url)
    watched.run(*COMMANDS, "fail", RELIABLE_TASKS_BROKER_URL=f"amqp://{user}@127.0.0.1:{broker}/x")
    watched.run(*COMMANDS, "fail", RELIABLE_TASKS_DATABASE_URL=f"postgresql://{user}@127.0.0.1:{database}/x")
    lines = (
        f"RELIABLE_TASKS_BROKER_URL=amqp://nobody:{wrong}@127.0.0.1:1/x",
        f"RELIABLE_TASKS_BROKER_URL=http://{user}@127.0.0.1/x",
        f"RELIABLE_TASKS_BROKER_URL={wrong}",
        f"RELIABLE_TASKS_BROKER_URL=amqp://{user}@a:1;amqp://{user}@b:1",
        f"RELIABLE_TASKS_DATABASE_URL=postgresql://nobody:{wrong}@[::1/x",
        f"RELIABLE_TASKS_DATABASE_URL=mysql://{user}@127.0.0.1/x",
        f"RELIABLE_TASKS_DATABASE_URL=postgresql://nobody@127.0.0.1:1/x?password={quote(wrong, safe='')}",
        f"RELIABLE_TASKS_MANAGEMENT_URL=http://{user}@127.0.0.1:1",
        f"CELERY_RESULT_BACKEND=redis://{user}@127.0.0.1:1",
        f"CELERY_BROKER=redis://{user}@127.0.0.1:1",
        f"CELERY_BROKER_URL=redis://{user}@127.0.0.1:1",
        f"RABBITMQ_PORT=amqp://{user}@127.0.0.1:1",
        f"RELIABLE_TASKS_SIGNING_KEYS={key}",
        f"RELIABLE_TASKS_SIGNING_KEYS=a:{key}!",
        f"RELIABLE_TASKS_SIGNING_KEYS=a:{key[:20]}",
    )
    watched.run(*COMMANDS, "misread", given="\n".join(lines))


def _port(url: str) -> int | None:
    return urlsplit(url).port


def _look_at_processes(watched: Watched, processes: list[Process], *, environ: bool) -> None:
    """Every process of the sessions that were started: our programs, their children and helpers."""
    sessions = {process.pid for process in processes}
    counted = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if os.getsid(int(folder.name)) not in sessions:
                continue
            command = (folder / "cmdline").read_bytes()
            watched.seen[f"cmdline of {command[:60]!r} {folder.name}"] = command
            if environ:
                watched.seen[f"environ of {command[:60]!r} {folder.name}"] = (folder / "environ").read_bytes()
            counted += 1
        except (ProcessLookupError, FileNotFoundError):
            continue
    assert counted >= len(processes) + 2, "the worker's children, too"


def _look_at_services(watched: Watched, owner: Database) -> None:
    for row in owner.rows(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'reliable_tasks')"
    ):
        table = f"{row['schemaname']}.{row['tablename']}"
        with owner.engine.begin() as connection:
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
        shown = [
            bytes(one) if isinstance(one, memoryview) else str(one).encode() for each in rows for one in each
        ]
        watched.seen[f"table {table}"] = b"\n".join(shown)
    watched.seen["pg_stat_activity"] = repr(owner.rows("SELECT * FROM pg_stat_activity")).encode()
    management: Any = watched.stack.broker.management
    for path in (
        "connections",
        "channels",
        "consumers",
        "queues",
        "exchanges",
        "bindings",
        "definitions",
        "overview",
    ):
        watched.seen[f"/api/{path}"] = repr(management._call("GET", f"/api/{path}")).encode()
    with closing(pika.BlockingConnection(pika.URLParameters(watched.around.broker_url))) as connection:
        got = connection.channel().basic_get("notifications", auto_ack=True)
        assert got[0] is not None, "the task that nobody hears"
        watched.seen["a message"] = repr((vars(got[1]), got[2])).encode()
