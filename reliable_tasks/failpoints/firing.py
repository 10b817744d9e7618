"""Counts passings, fires what is due, and leaves a mark that it did."""

import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from reliable_tasks.failpoints.points import Action, Point
from reliable_tasks.failpoints.windows import WINDOWS, Side

log = logging.getLogger("reliable_tasks.failpoints")


class HasSocket(Protocol):
    """A connection, as far as `reset` needs it."""

    def fileno(self) -> int:
        """The descriptor of its socket."""


class Firing:
    """The failpoints of this process.

    Args:
        marks: where a file is made for each failpoint that fires. One that has its file does not fire again, in
            whichever process: a program that is restarted goes on.
    """

    def __init__(self, points: Sequence[Point], marks: Path | None) -> None:
        self._points = [(point, itertools.count(1)) for point in points]
        self._marks = marks
        self._here = threading.local()

    def reach(self, window: str, connection: HasSocket | None) -> None:
        """Fire what is due in this window."""
        late = getattr(self._here, "late", {})
        if window in late:
            raise late.pop(window)
        # all count this passing, before one of them leaves by an error
        due = [
            point
            for point, passings in self._points
            if point.window == window and next(passings) == point.nth
        ]
        for point in due:
            if self._mark(point):
                log.warning("failpoint %s fires in process %s", point, os.getpid())
                self._act(point, connection)

    def _mark(self, point: Point) -> bool:
        """Leave the mark, and say whether it is the first."""
        if self._marks is None:
            return True
        try:
            place = os.open(self._marks / str(point), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(place, "w") as mark:
            json.dump({"failpoint": str(point), "pid": os.getpid(), "at": time.time()}, mark)
        return True

    def _act(self, point: Point, connection: HasSocket | None) -> None:
        match point.action:
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Action.STOP:
                _stop(point.milliseconds)
            case Action.SLEEP:
                time.sleep((point.milliseconds or 0) / 1000)  # this delay is the fault
            case Action.RESET:
                if connection is not None:  # else it is gone already
                    _shut(connection)
            case Action.RAISE:
                raise RuntimeError(f"failpoint {point}")
            case Action.RAISE_AFTER:
                self._lose_answer(point)

    def _lose_answer(self, point: Point) -> None:
        window = WINDOWS[point.window]
        error = Side(window.side).outage(point.window)
        if not window.until:
            raise error
        self._here.late = {**getattr(self._here, "late", {}), window.until: error}


def _stop(milliseconds: int | None) -> None:
    if milliseconds is not None:
        # a stopped process cannot continue itself; the shell ends at once, so that nobody has to wait for it
        later = '(sleep "$1"; kill -CONT "$2") >/dev/null 2>&1 &'
        subprocess.run(["sh", "-c", later, "sh", str(milliseconds / 1000), str(os.getpid())], check=True)
    os.kill(os.getpid(), signal.SIGSTOP)


def _shut(connection: HasSocket) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as same, suppress(OSError):
        same.shutdown(socket.SHUT_RDWR)
