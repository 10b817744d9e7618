"""The processes of a run: workers, services, bank, sender. All ended by what was recorded when they started."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.payments.bank_client import BANK_ADDRESS
from examples.payments.orders import Order
from examples.payments.workload import as_fields
from reliable_tasks.dev.processes import ProcessId, children, end, spawn, wait_ended, with_variable
from reliable_tasks.errors import ServiceStartError

RUN = "PAYMENTS_RUN"
_STOP_SECONDS = 3.0
SUPERVISION_SECONDS = 0.3


class Program:
    """One program that can be killed and started again."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._argv = [sys.executable, "-m", *argv]
        self._env = env
        self._folder = folder
        self.process: ProcessId | None = None

    def start(self) -> None:
        """Start it; its output goes to a log in the folder."""
        self.process = spawn(
            self._argv,
            env=self._env,
            folder=self._folder,
            log=self._folder / f"{self.name}.log",
            account=None,
        )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.alive()

    def children(self) -> list[ProcessId]:
        """The processes it has started."""
        return children(self.process) if self.process else []

    def kill(self, orphans_seconds: float = 1.0) -> None:
        """SIGKILL; what its children were at they may still finish, but not for long."""
        orphans = self.children()
        if self.process:
            end(self.process, [])
        for orphan in wait_ended(orphans, orphans_seconds):
            end(orphan, [])

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        if self.process and self.process.alive():
            os.kill(self.process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """Wait until it has stopped, and SIGKILL it when that takes too long."""
        orphans = self.children()
        for process in wait_ended([self.process] if self.process else [], _STOP_SECONDS):
            end(process, [])
        for orphan in wait_ended(orphans, 0.5):
            end(orphan, [])


class Sender:
    """The publishing process; `send` hands it a chunk, `wait` waits until it was accepted."""

    def __init__(self, kind: str, env: Mapping[str, str], folder: Path) -> None:
        self._log = (folder / f"sender-{kind}.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "examples.payments.publisher", kind],
            env=dict(env),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def send(self, chunk: Sequence[tuple[Order, int]]) -> None:
        """Hand over a chunk and return at once."""
        assert self._process.stdin is not None
        line = json.dumps([[as_fields(order), copies] for order, copies in chunk])
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """Wait for the chunk's acceptance; returns how many messages it was."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServiceStartError("the sender of the demo has ended", hint=f"its log is {self._log.name}")
        return int(line)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Deployment:
    """All programs of one run.

    Args:
        environ: what leads them to broker and database.
        commands: program name to its `python -m` arguments; names that begin with `worker` are workers.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        commands: Mapping[str, Sequence[str]],
        bank_plan: Mapping[str, str],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._run = secrets.token_hex(8)
        self.bank_folder = folder / "bank"
        self.bank_folder.mkdir(exist_ok=True)
        (self.bank_folder / "plan.json").write_text(json.dumps(dict(bank_plan)))
        port = _free_port()
        self.bank_address = f"127.0.0.1:{port}"
        self.env = {**environ, BANK_ADDRESS: self.bank_address, RUN: self._run}
        self.programs = {name: Program(name, argv, self.env, folder) for name, argv in commands.items()}
        self.bank = Program(
            "bank",
            ["examples.payments.bank", "--port", str(port), "--folder", str(self.bank_folder)],
            self.env,
            folder,
        )
        self.restarts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._keep_running, name="supervisor", daemon=True)

    @property
    def workers(self) -> list[Program]:
        """The worker programs."""
        return [program for name, program in self.programs.items() if name.startswith("worker")]

    def start(self) -> None:
        """Start everything."""
        for program in self._all():
            program.start()
        self._watch.start()

    def stop(self) -> None:
        """End everything, orphans of killed programs included."""
        self._stop.set()
        if self._watch.is_alive():
            self._watch.join()
        for program in self._all():
            program.ask_to_stop()
        for program in self._all():
            program.stop()
        for process in with_variable(RUN, self._run):
            end(process, [])

    def _all(self) -> list[Program]:
        return [self.bank, *self.programs.values()]

    def _keep_running(self) -> None:
        """Start again what has ended, as the supervisor of any deployment does."""
        while not self._stop.wait(SUPERVISION_SECONDS):
            for program in self._all():
                if not program.alive:
                    self.restarts[program.name] += 1
                    program.start()


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead a program to another broker or database.

    The folder that holds `examples` and `topology` joins the path: the programs run elsewhere.
    """
    others = ("RELIABLE_TASKS_", "CELERY_", "RABBITMQ_", "DB_", "REDIS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    path = [str(Path(__file__).resolve().parents[2]), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
