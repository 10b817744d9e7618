"""Failpoints: a process is killed, stopped or cut off in a named window, for tests of what must survive it.

    if failpoints.ACTIVE:
        failpoints.reach("worker.after_claim")

Off by default: the cost is that one look at a constant. RELIABLE_TASKS_FAILPOINT chooses, when a process starts.
"""

import os
from pathlib import Path
from typing import Final

from reliable_tasks.errors import SettingError
from reliable_tasks.failpoints.firing import Firing, HasSocket
from reliable_tasks.failpoints.points import MARKS_VARIABLE, VARIABLE, Action, Point, parse
from reliable_tasks.failpoints.windows import WINDOWS, Side, Window

__all__ = [
    "ACTIVE",
    "MARKS_VARIABLE",
    "VARIABLE",
    "WINDOWS",
    "Action",
    "Point",
    "Side",
    "Window",
    "parse",
    "reach",
]


def _chosen() -> tuple[Point, ...]:
    if os.environ.get("RELIABLE_TASKS_ENV", "").strip() == "production":
        return ()
    try:
        return parse(os.environ.get(VARIABLE, ""))
    except SettingError:
        return ()  # told by `load_settings`, with which every program begins


_POINTS = _chosen()
_FIRING = Firing(_POINTS, Path(os.environ[MARKS_VARIABLE]) if os.environ.get(MARKS_VARIABLE) else None)

ACTIVE: Final[bool] = bool(_POINTS)
"""Whether this process has a failpoint at all."""


def reach(window: str, connection: HasSocket | None = None) -> None:
    """Pass a window; whatever is chosen for it happens here.

    Args:
        window: one of WINDOWS.
        connection: what `reset` shuts.
    """
    _FIRING.reach(window, connection)
