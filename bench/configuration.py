"""On what the figures were taken: the machine, the disk, the versions, and what each entry is."""

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.counters import memory_mib
from bench.entries import Entry, Whole
from bench.services import DURABLE, setting
from bench.system import ROOT
from reliable_tasks.dev import Stack

_PACKAGES = (
    "celery", "kombu", "amqp", "pika", "sqlalchemy", "psycopg2-binary", "dramatiq", "taskiq", "taskiq-aio-pika",
    "taskiq-postgres", "procrastinate", "pgqueuer", "dbos", "redis", "aio-pika", "asyncpg", "psycopg",
)  # fmt: skip
_SYNCS = 300


def configuration(stack: Stack, entries: Sequence[Entry], **more: Any) -> dict[str, Any]:
    """Everything that a reader needs to judge or repeat a run."""
    return {
        **more,
        "commit": _commit(),
        "machine": {
            "cores": os.cpu_count(),
            "processor": _processor(),
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            "load_average": [round(one, 1) for one in os.getloadavg()],
            "sync_microseconds": _sync_microseconds(stack.folder),
            "runner_mib": round(memory_mib([os.getpid()])[1]),
        },
        "postgres": {name: setting(name) for name in (*DURABLE, "shared_buffers", "max_wal_size")},
        "versions": {
            "python": platform.python_version(),
            "rabbitmq": stack.rabbitmq_version,
            "postgres": stack.postgres_version,
            **{name: found for name in _PACKAGES if (found := _version(name))},
        },
        "entries": {entry.name: _entry(entry) for entry in entries},
    }


def _entry(entry: Entry) -> dict[str, Any]:
    if reason := entry.unavailable():
        return {"unavailable": reason}
    if not isinstance(entry, Whole):
        return {}
    system = entry.system
    commands = [" ".join([Path(program).name, *words]) for program, *words in system.workers()]
    return {
        "about": system.about,
        "workers": commands,
        "durability": system.durability,
        "waiting": system.waiting if system.calls and system.result_store != "none" else "",
    }


def _sync_microseconds(folder: Path) -> float:
    """What one fdatasync of 8 kB costs where Postgres writes."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        block = b"\0" * 8192
        os.pwrite(file.fileno(), block, 0)
        os.fsync(file.fileno())
        start = time.perf_counter()
        for _ in range(_SYNCS):
            os.pwrite(file.fileno(), block, 0)
            os.fdatasync(file.fileno())
        return round((time.perf_counter() - start) / _SYNCS * 1e6, 1)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit, with a plus when the files are not as committed; empty outside a clone."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
