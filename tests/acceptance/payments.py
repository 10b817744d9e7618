"""The payments application on a fresh vhost and database, with real worker and services processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, text

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
APP = "tests.acceptance.bank_app"

LEDGER = """
CREATE SCHEMA bank;
CREATE TABLE bank.accounts (account_id text PRIMARY KEY, balance numeric(20, 2) NOT NULL);
CREATE TABLE bank.effects (id bigint GENERATED ALWAYS AS IDENTITY, order_id text, amount numeric(20, 2));
INSERT INTO bank.accounts SELECT n::text, 1000 FROM generate_series(1, 20) n;
"""


@dataclass
class Bank:
    """A deployment in motion: its environment, its processes, and questions to its database."""

    environ: dict[str, str]
    engine: Engine
    logs: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, **environ: str) -> subprocess.Popen[bytes]:
        """Start a program of the virtual environment in a process group of its own."""
        program = str(Path(sys.executable).parent / command[0])
        with (self.logs / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [program, *command[1:]],
                cwd=ROOT,
                env={**self.environ, **environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(self, *options: str) -> subprocess.Popen[bytes]:
        return self.start("celery", "-A", APP, "worker", "--concurrency", "2", *options)

    def services(self) -> subprocess.Popen[bytes]:
        return self.start("reliable-tasks", "services")

    def one(self, sql: str, **values: Any) -> Any:
        """The first column of the first row."""
        with self.engine.connect() as connection:
            return connection.execute(text(sql), values).scalar()

    def wait_for(self, sql: str, expected: Any, seconds: float = 60, **values: Any) -> None:
        """Wait until a query answers as expected."""
        wait_until(lambda: self.one(sql, **values) == expected, f"{sql} = {expected}", seconds)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL a program with its pool processes."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def bank(environ: dict[str, str], database_url: str, logs: Path) -> Iterator[Bank]:
    """The deployment, with its topology applied and its accounts at 1000 each."""
    engine = sqlalchemy.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(LEDGER))
    running = Bank(environ, engine, logs)
    applied = running.start("reliable-tasks", "topology", "apply", "--yes")
    assert applied.wait(60) == 0, (logs / "0.log").read_text()
    try:
        yield running
    finally:
        for process in running.processes:
            if process.poll() is None:
                running.kill(process)
        engine.dispose()
