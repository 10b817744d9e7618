"""The workers of one system: started together, looked after, ended by the ids of what was started."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.addresses import addresses
from bench.counters import descendants
from bench.system import ROOT, System

STOP_SECONDS = 15


class WorkerEnded(RuntimeError):
    """A worker has ended by itself."""


class Workers:
    """The running workers."""

    def __init__(self, system: System, commands: Sequence[list[str]]) -> None:
        self._log = Path(addresses().logs) / f"{system.name}.log"
        with self._log.open("ab") as output:
            self._processes = [
                subprocess.Popen(
                    command,
                    env={**system.environment(), "BENCH_WORKER": str(number)},
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                for number, command in enumerate(commands)
            ]

    @property
    def pids(self) -> list[int]:
        """Of the commands; their children are below them."""
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """Raises WorkerEnded when one has ended."""
        for process in self._processes:
            if process.poll() is not None:
                said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
                raise WorkerEnded(f"a worker ended with {process.returncode}: {''.join(said)[:300]}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not go."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in descendants([process.pid]):
                    os.kill(pid, signal.SIGKILL)
                process.wait(STOP_SECONDS)


@contextmanager
def running(system: System, *, beside: bool = False) -> Iterator[Workers]:
    """The system's workers, and what else it needs when that is asked for, until the end of the block."""
    workers = Workers(system, [*system.workers(), *(system.beside() if beside else [])])
    try:
        yield workers
    finally:
        workers.stop()
