"""Names of what a test session makes on a shared stack: they say whose it is, so that leftovers can go."""

import re
from collections.abc import Iterable

from reliable_tasks.dev.processes import identify, this_process

_NAME = re.compile(r"test_(\d+)_([0-9a-z]+)_([0-9]+)_")


def session_prefix() -> str:
    """How all names of this session begin."""
    process = this_process()
    return f"test_{process.pid}_{process.started.replace('.', '_')}_"


def left_by_the_dead(names: Iterable[str]) -> list[str]:
    """Those of the names whose session has ended."""
    return [name for name in names if (match := _NAME.match(name)) and not _alive(*match.groups())]


def _alive(pid: str, boot: str, ticks: str) -> bool:
    process = identify(int(pid))
    return process is not None and process.started == f"{boot}.{ticks}"
