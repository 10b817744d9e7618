"""What a fault of the random tier is, and what it may act upon: one round with its programs, wires and services."""

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from reliable_tasks.dev import Stack
from reliable_tasks.dev.processes import identify
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Proxy
from tests.chaos.running import Run
from tests.chaos.wires import Wires

WORKERS = ("worker-1", "worker-2", "worker-3")
SERVICES = ("services-1", "services-2")
PRODUCERS = ("producer-0", "producer-1", "producer-2")
THROUGH_PROXIES = {"worker": ("worker-1",), "services": SERVICES, "producer": ("producer-0",)}
"""Of each kind of program, those whose wires can be cut."""

CONCURRENCY = 4
PATIENCE_SECONDS = 30.0
_JUST_NOW_SECONDS = 0.5
_MORE_SECONDS = 6.0


@dataclass(frozen=True)
class Entry:
    """One fault of the catalogue.

    Args:
        name: what happens, as a sentence.
        rows: of the fault matrix.
        act: does it, holds it, and heals it; whether it did happen to something that was at work.
        wires: the kind of program whose wires it cuts.
        needs: "disk" (root, for a small tmpfs), "cgroup" (root), "cluster" or "single" (of brokers),
            "partition" (root, for the firewall's rules).
        address: whether all programs must reach the database through an address that can be led elsewhere.
    """

    name: str
    rows: tuple[str, ...]
    act: Callable[["Field"], bool]
    wires: str = ""
    needs: tuple[str, ...] = ()
    address: bool = False


@dataclass
class Field:
    """Where the faults of one round happen.

    Args:
        wires: by kind of program.
        disk: the small file system of broker and database; None when there is none.
        cluster: the brokers, when there are three.
        start_worker: starts one of WORKERS with more variables.
        address: through which all programs reach the database, in rounds that need one.
    """

    run: Run
    stack: Stack
    wires: Mapping[str, Wires]
    disk: Path | None
    cluster: Cluster | None
    start_worker: Callable[..., Any]
    address: Proxy | None = None
    more: Callable[[], bool] = lambda: False
    """Lets more be sent, when there is something left."""

    chance: random.Random = field(default_factory=random.Random)
    until_the_end: ExitStack = field(default_factory=ExitStack)
    """What lasts longer than its act, and is healed with the round."""

    def hold(self, least: float, most: float) -> None:
        """Let the fault last so many seconds."""
        threading.Event().wait(self.chance.uniform(least, most))

    def wait(self, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait for it; whether it came in time. An error is no."""
        begun = time.monotonic()
        wanted = begun + _MORE_SECONDS
        while time.monotonic() < begun + seconds:
            try:
                if condition():
                    return True
            except (SQLAlchemyError, OSError):
                pass
            if time.monotonic() > wanted:
                # what it waits for may need something to happen to
                self.more()
                wanted += _MORE_SECONDS
            threading.Event().wait(0.05)
        return False

    def since(self, moment: float) -> list[dict[str, Any]]:
        """What was said from this moment on."""
        found = []
        for line in reversed(self.run.history.lines()):
            if line["at"] < moment - PATIENCE_SECONDS:
                break  # writers are not in order, but nearly
            if line["at"] >= moment:
                found.append(line)
        return found

    def executing(self, chosen: Callable[[dict[str, Any]], Any] = lambda _line: True) -> int | None:
        """A pool process that began an execution a moment ago, and lives."""
        found: list[int] = []

        def just_now() -> bool:
            lines = [line for line in self.since(time.time() - _JUST_NOW_SECONDS) if line["op"] == "begin"]
            found.extend(line["pid"] for line in lines if chosen(line) and identify(line["pid"]))
            return bool(found)

        return self.chance.choice(found) if self.wait(just_now) else None

    def begins(self, moment: float) -> int:
        """How many executions began from this moment on."""
        return sum(line["op"] == "begin" for line in self.since(moment))

    def has_begun(self, worker: str, moment: float) -> bool:
        """Whether this worker has begun an execution from this moment on."""
        pids = {process.pid for process in self.run.children(worker)}
        return any(line["op"] == "begin" and line["pid"] in pids for line in self.since(moment))

    def not_accepted(self, moment: float) -> bool:
        """Whether a sender was refused, or not told, from this moment on."""
        return any(
            line["op"] == "send" and line["phase"] in ("fail", "unknown") for line in self.since(moment)
        )

    def count(self, what: str) -> int:
        """How many rows there are: a table of the database, with a condition."""
        with self.run.engine.connect() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {what}")).scalar_one())

    def pid(self, program: str) -> int:
        """Of a program that runs; waits for it when it was just killed."""
        self.wait(lambda: self.run.programs[program].alive)
        process = self.run.programs[program].process
        assert process is not None
        return process.pid

    def signal(self, program: str, number: int) -> bool:
        """A signal to a program with all its processes; whether there was one."""
        try:
            os.killpg(self.pid(program), number)
        except ProcessLookupError:
            return False
        return True
