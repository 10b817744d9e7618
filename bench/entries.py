"""What a round is made of: whole systems, raw limits, chords, bulk publishing. Each runs once a round."""

import subprocess
import time
from abc import ABC, abstractmethod

from bench import clean
from bench.counters import Servers, machine_cpu_seconds, servers
from bench.measuring import Record, Sizes, measure
from bench.producing import produce
from bench.system import ROOT, System, python
from bench.systems import find, ours_missing
from bench.workers import running

CHORDS = {"celery-stock-chord": "celery-stock", "ours-chord": "ours-none-processes2"}
PUBLISH_MANY, RELAY = "ours-publish-many", "ours-relay"
BULK = {PUBLISH_MANY: "publish_many", RELAY: "relay"}
"""What the producer of each does."""

RAW_SECONDS = 180


class Entry(ABC):
    """One thing that is measured once a round."""

    def __init__(self, name: str) -> None:
        self.name = name

    def unavailable(self) -> str | None:
        """Why not; None when it can be measured."""
        return None

    @abstractmethod
    def run(self, last: Record | None) -> Record:
        """Measure it, knowing what it came to in the round before."""


class Whole(Entry):
    """A task system: publish, drain, latency."""

    def __init__(self, system: System, sizes: Sizes) -> None:
        super().__init__(system.name)
        self.system, self._sizes = system, sizes

    def unavailable(self) -> str | None:
        return self.system.unavailable()

    def run(self, last: Record | None) -> Record:
        tasks = self._sizes.tasks(self.system, last["rate"] if last else None)
        return measure(self.system, tasks, self._sizes, _servers(self.system))


class Chord(Entry):
    """A chord, from sending it to its result."""

    def __init__(self, name: str, tasks: int) -> None:
        super().__init__(name)
        self._system, self._tasks = find(CHORDS[name]), tasks

    def unavailable(self) -> str | None:
        return ours_missing.chord_by_counter()

    def run(self, last: Record | None) -> Record:
        try:
            self._system.reset()
            with running(self._system, beside=True):
                seconds = produce(self._system, "chord", 0, self._tasks)
        finally:
            clean.drop_database(self._system.database)
        return {"system": self.name, "tasks": self._tasks, "chord_seconds": round(seconds, 3)}


class Bulk(Entry):
    """Our bulk publishing, or our relay, into a queue that nobody reads."""

    def __init__(self, name: str, tasks: int) -> None:
        super().__init__(name)
        self._system, self._tasks = find("ours-none-prefork2"), tasks

    def run(self, last: Record | None) -> Record:
        try:
            self._system.reset()
            seconds = produce(self._system, BULK[self.name], 0, self._tasks)
        finally:
            clean.drop_database(self._system.database)
        return {"system": self.name, "tasks": self._tasks, "publish_rate": round(self._tasks / seconds, 1)}


class Raw(Entry):
    """A limit of broker or database."""

    def run(self, last: Record | None) -> Record:
        busy, start = machine_cpu_seconds(), time.perf_counter()
        ended = subprocess.run(
            python("-m", "bench.raw", self.name),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=RAW_SECONDS,
            check=False,
        )
        taken = time.perf_counter() - start
        if ended.returncode:
            raise RuntimeError((ended.stderr.strip().splitlines() or ["no word"])[-1][:300])
        rate = round(float(ended.stdout.strip().splitlines()[-1]), 1)
        cores = round((machine_cpu_seconds() - busy) / taken, 2)
        return {"system": self.name, "raw": True, "rate": rate, "busy_cores": cores}


def _servers(system: System) -> Servers:
    needs_redis = "redis" in (system.broker, system.result_store)
    return servers(clean.administrator(), clean.redis_client() if needs_redis else None)
