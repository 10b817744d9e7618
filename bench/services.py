"""The services of a run: a private RabbitMQ and Postgres with fsync on, and a Redis for the peers that need one."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import clean
from bench.addresses import Addresses
from bench.system import ROOT
from reliable_tasks.dev import Stack, throwaway_stack
from reliable_tasks.dev.binaries import RABBITMQ_SBIN
from reliable_tasks.errors import ServiceStartError
from tests.broker_releases import programs_of

NEWEST = "4.3"
"""The series of RabbitMQ that is measured by default, where it has been fetched."""

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
LOGS = ROOT / "var" / "bench" / "logs"
_REDIS_SECONDS = 10
_KNOWN_SECONDS = 30


@contextmanager
def services(*, broker: str = "", redis: bool = False) -> Iterator[Stack]:
    """Start them; `bench.addresses` leads there, in this process and its children, until the block ends.

    Args:
        broker: a series of RabbitMQ, fetched when it is not here; by default 4.3 if it is here, else the installed.
        redis: whether a Redis is needed.

    Raises:
        ServiceStartError: when one does not start, or Postgres does not sync.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    if chosen := broker or _newest_here():
        os.environ[RABBITMQ_SBIN] = str(programs_of(chosen))
    with ExitStack() as opened:
        stack = opened.enter_context(throwaway_stack(fsync=True))
        redis_url = opened.enter_context(_redis()) if redis else ""
        os.environ.update(Addresses.of(stack, redis_url, LOGS).environment())
        lax = [name for name in DURABLE if setting(name) != "on"]
        if lax:
            raise ServiceStartError(f"Postgres runs with {', '.join(lax)} off", hint="no figure would count")
        end = time.monotonic() + _KNOWN_SECONDS
        while not clean.administrator().node_pids():
            if time.monotonic() > end:
                raise ServiceStartError(
                    "RabbitMQ does not tell its process", hint="its CPU would not be counted"
                )
            time.sleep(0.2)  # between questions to a broker that starts
        yield stack


def setting(name: str) -> str:
    """One of Postgres's settings, as it is now."""
    connection = clean.connect("postgres")
    cursor = connection.cursor()
    cursor.execute(f"SHOW {name}")
    (value,) = cursor.fetchone()
    connection.close()
    return str(value)


def _newest_here() -> str:
    """The series to take when nobody says: nothing is fetched, and nobody's own choice is overruled."""
    cache = Path(
        os.environ.get("RELIABLE_TASKS_BROKER_CACHE") or "~/.cache/reliable-tasks/brokers"
    ).expanduser()
    here = RABBITMQ_SBIN not in os.environ and (cache / NEWEST / "system").is_dir() and os.geteuid() == 0
    return NEWEST if here else ""


@contextmanager
def _redis() -> Iterator[str]:
    """A Redis that syncs its log each second, in a folder of its own."""
    program = shutil.which("redis-server")
    if program is None:
        raise ServiceStartError("redis-server is not here", hint="run scripts/setup-bench")
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        port = _free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "everysec"]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(_REDIS_SECONDS)


def _wait_for(port: int) -> None:
    end = time.monotonic() + _REDIS_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise ServiceStartError("Redis did not start", hint="is its port taken?") from None
            time.sleep(0.05)  # between attempts to connect


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
