"""The processes of one run: bank, workers, relay, collector, producers; how it comes to rest, and its verdict."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import sqlalchemy

from examples.payments.deployment import Program
from reliable_tasks.dev.processes import ProcessId, end, with_variable
from tests.chaos import workload_tables
from tests.chaos.history import HISTORY, History
from tests.chaos.resting import Rest
from tests.chaos.workload_plan import DATABASE_TASKS, EXTERNAL_TASKS
from tests.chaos.workload_tables import Watch
from tests.deployment import Deployment
from tests.programs import ROOT, Done
from tests.waiting import wait_until

APP = "tests.chaos.workload_app"
RUN = "CHAOS_RUN"
"""Environment variable of all processes of a run, so that none outlives it."""

CHECKER = Path(__file__).with_name("checker.py")
SUPERVISION_SECONDS = 0.3

PATIENCE_SECONDS = 120.0
"""How long any one thing may take before a test gives up: many times what it takes, for a machine that is busy."""

HANGS_SECONDS = 900
"""After which a test counts as hanging: its own waits, each with a reason to tell, must end before it."""


class Run:
    """One deployment with its programs, its history and its bank.

    Args:
        sends: what the producers send.
        producers: how many there are; they share the sends.
        variables: environment of all programs, such as a mutant's name.
    """

    def __init__(
        self, around: Deployment, sends: list[dict[str, Any]], *, producers: int = 1, **variables: str
    ) -> None:
        self.around = around
        self.sends = sends
        self.folder = around.place
        self.engine = sqlalchemy.create_engine(around.database_url, pool_pre_ping=True)
        self.history = History(self.folder / "history.jsonl", "harness")
        self._mark = secrets.token_hex(8)
        self._port = _free_port()
        self._variables = variables
        self._watch = Watch(self.engine, self.history)
        self.programs: dict[str, Program] = {}
        self.paused: set[str] = set()
        self._stop = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.producers = [f"producer-{number}" for number in range(producers)]
        for number, name in enumerate(self.producers):
            mine = [json.dumps(send) for send in sends[number::producers]]
            (self.folder / f"{name}.plan").write_text("\n".join(mine))

    def __enter__(self) -> Self:
        workload_tables.create(self.engine)
        self._watch.__enter__()
        self.history.say("tasks", database=DATABASE_TASKS, external=EXTERNAL_TASKS)
        bank = ["tests.chaos.workload_bank", "--port", str(self._port), "--log", str(self.bank_log)]
        self.start("bank", bank)
        return self

    def __exit__(self, *_error: Any) -> None:
        self._stop.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for process in with_variable(RUN, self._mark):
            end(process, [])
        self._watch.__exit__()
        self.engine.dispose()

    @property
    def bank_log(self) -> Path:
        return self.folder / "bank.jsonl"

    def start(self, name: str, argv: list[str], **variables: str) -> Program:
        """Start a program of this run."""
        env = {**os.environ, **self.environment(), **variables}
        program = self.programs[name] = Program(name, argv, env, self.folder)
        program.start()
        return program

    def start_services(self, *only: str, **variables: str) -> None:
        """The relay and the collector in one process, or each of those that are named in one of its own."""
        services = ["reliable_tasks.cli.main", "services", "-A", f"{APP}:app"]
        for loop in only:
            self.start(loop, [*services, "--only", loop], **variables)
        if not only:
            self.start("services", services, **variables)

    def start_worker(self, name: str, *options: str, concurrency: int = 2, **variables: str) -> Program:
        """A worker; `wait_ready` waits for it."""
        argv = [
            "celery",
            "-A",
            APP,
            "worker",
            "-l",
            "INFO",
            "-n",
            f"{name}@%h",
            "-c",
            str(concurrency),
            *options,
        ]
        return self.start(name, argv, **variables)

    def wait_ready(self, *names: str) -> None:
        """Wait until these workers take tasks."""
        for name in names:
            log = self.folder / f"{name}.log"
            wait_until(
                lambda log=log: "ready." in log.read_text(errors="replace"),
                f"{log} says ready",
                PATIENCE_SECONDS,
            )  # type: ignore[misc]

    def start_producers(self, per_second: float = 1000.0, **variables: str) -> None:
        """Begin to send."""
        for name in self.producers:
            plan = ["--plan", str(self.folder / f"{name}.plan"), "--per-second", str(per_second)]
            self.start(name, ["tests.chaos.workload_producer", "--name", name, *plan], **variables)

    def all_sent(self) -> bool:
        """Whether the producers have tried everything."""
        return self._done() >= set(self.producers)

    def supervise(self) -> None:
        """From now on, start again what has ended, as the supervisor of any deployment does."""
        self._supervisor.start()

    def drain(self, stalled_seconds: float = 60.0, limit_seconds: float = 600.0) -> None:
        """Wait until nothing is under way any more, or nothing changes any more; and note how long it took."""
        self.history.say("healed")
        begun = time.monotonic()
        rest = Rest(self.engine, self.around.broker_url, self.history)
        quiet = rest.wait(stalled_seconds, limit_seconds)
        self.history.say("drained", seconds=time.monotonic() - begun, quiet=quiet, last=rest.last)

    def open_accounts(self) -> None:
        """Take away the cause of the dead letters that can be replayed: no account is closed any more."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM bank.closed")

    def replay(self, *which: str, **variables: str) -> Done:
        """What an operator does, who says which dead letters."""
        command = ("reliable_tasks.cli.main", "dead-letters", "replay", *which, "--yes", "-A", f"{APP}:app")
        done = self.around.python("-m", *command, **self.environment(), **variables)
        self.history.say("replay", which=which, returned=done.returncode, told=done.stderr)
        return done

    def judge(self, *options: str) -> dict[str, Any]:
        """The checker's verdict, from a process that knows nothing of us; how many faults fired, seconds to recover."""
        where = self.around
        done = subprocess.run(
            [sys.executable, CHECKER, "--database-url", where.database_url,
             "--broker-url", where.broker_url.partition(";")[0],
             "--management-url", where.management_url.partition(";")[0], "--history", self.history.path,
             "--bank-log", self.bank_log, "--drain-seconds", str(2 * PATIENCE_SECONDS), *options],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise AssertionError(done.stderr)
        (self.folder / "verdict.txt").write_text(done.stderr)
        verdict: dict[str, Any] = json.loads(done.stdout)
        assert bool(verdict["red"]) == bool(done.returncode)
        said = self.history.lines()
        return {
            **verdict,
            "table": done.stderr,
            "folder": str(self.folder),
            "fired": sum(line["op"] == "fired" and line["inside"] for line in said),
            "recovered": sum(line["seconds"] for line in said if line["op"] == "drained"),
        }

    def children(self, name: str) -> list[ProcessId]:
        """The pool processes of a worker."""
        return self.programs[name].children()

    def environment(self) -> Mapping[str, str]:
        """What leads a program into this run."""
        more = {
            HISTORY: str(self.history.path),
            "CHAOS_BANK": f"127.0.0.1:{self._port}",
            RUN: self._mark,
            "PYTHONPATH": str(ROOT),
        }
        return {**self.around.environment(), **more, **self._variables}

    def _done(self) -> set[str]:
        """The producers that have tried all of theirs; one that is started again says so again."""
        return {line["by"] for line in self.history.lines() if line["op"] == "sent"}

    def _supervise(self) -> None:
        while not self._stop.wait(SUPERVISION_SECONDS):
            for name, program in list(self.programs.items()):
                finished = not program.alive and name in self.producers and name in self._done()
                if not program.alive and name not in self.paused and not finished:
                    program.start()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
