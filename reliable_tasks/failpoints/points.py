"""Failpoints as people write them: `window:action[:nth]`, read and checked."""

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum

from reliable_tasks.errors import SettingError
from reliable_tasks.failpoints.windows import WINDOWS

VARIABLE = "RELIABLE_TASKS_FAILPOINT"
MARKS_VARIABLE = "RELIABLE_TASKS_FAILPOINT_MARKS"

_FORM = re.compile(
    r"(?P<window>[\w.]+):(?P<action>\w+)(?:\((?P<milliseconds>\d{1,7})\))?(?::(?P<nth>[1-9]\d{0,8}))?"
)
_EXAMPLE = "write window:action[:nth], for example worker.after_claim:kill:2 or relay.after_select:stop(1500)"


class Action(StrEnum):
    """What happens in the window.

    kill         SIGKILL to this process.
    stop         SIGSTOP to this process, for as many milliseconds, or until somebody continues it.
    raise        An error that nobody foresaw.
    raise_after  The step is done, then its answer is lost: the error of an outage.
    reset        The connection that the step uses is shut.
    sleep        The window takes as many milliseconds.
    """

    KILL = "kill"
    STOP = "stop"
    RAISE = "raise"
    RAISE_AFTER = "raise_after"
    RESET = "reset"
    SLEEP = "sleep"


@dataclass(frozen=True)
class Point:
    """One failpoint.

    Args:
        nth: which passing of this window, in each process, fires; the first is 1.
        milliseconds: how long to stop or sleep.
    """

    window: str
    action: Action
    nth: int = 1
    milliseconds: int | None = None

    def __str__(self) -> str:
        argument = "" if self.milliseconds is None else f"({self.milliseconds})"
        return f"{self.window}:{self.action}{argument}:{self.nth}"


def parse(text: str) -> tuple[Point, ...]:
    """The failpoints of a comma-separated list.

    Raises:
        SettingError: when one is not of the form, or names no window or action, or one that does not fit.
    """
    return tuple(_point(part.strip()) for part in text.split(",") if part.strip())


def _point(text: str) -> Point:
    parts = _FORM.fullmatch(text)
    if parts is None:
        raise SettingError(f"{VARIABLE} has {text!r}, which is no failpoint", hint=_EXAMPLE)
    window = WINDOWS.get(parts["window"])
    if window is None:
        raise SettingError(
            f"{VARIABLE} has {text!r}, but there is no window {parts['window']}", hint=_close(parts["window"])
        )
    if parts["action"] not in list(Action):
        raise SettingError(
            f"{VARIABLE} has {text!r}, but there is no action {parts['action']}",
            hint=f"use {', '.join(Action)}",
        )
    action = Action(parts["action"])
    milliseconds = int(parts["milliseconds"]) if parts["milliseconds"] else None
    if milliseconds is not None and action not in (Action.STOP, Action.SLEEP):
        raise SettingError(
            f"{VARIABLE} has {text!r}, but {action} takes no time", hint="only stop and sleep do"
        )
    if milliseconds is None and action is Action.SLEEP:
        raise SettingError(
            f"{VARIABLE} has {text!r}, which does not say how long", hint="write sleep(milliseconds)"
        )
    if action is Action.RESET and not window.reset:
        possible = ", ".join(name for name, one in WINDOWS.items() if one.reset)
        raise SettingError(
            f"{VARIABLE} has {text!r}, but there is no connection to reset in that window",
            hint=f"use one of {possible}",
        )
    return Point(window.name, action, int(parts["nth"] or 1), milliseconds)


def _close(name: str) -> str:
    close = difflib.get_close_matches(name, WINDOWS, 1)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(WINDOWS)}"
