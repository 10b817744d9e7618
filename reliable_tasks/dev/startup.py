"""Waiting for a service to be ready, and saying why it is not."""

import time
from collections import deque
from pathlib import Path

from reliable_tasks.errors import ServiceStartError

_PAUSE = 0.05
_LAST_LINES = 5


class Patience:
    """A deadline with a short pause at each question."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def exhausted(self) -> bool:
        """Pause; whether the time is over."""
        time.sleep(_PAUSE)  # a service that starts can only be asked
        return time.monotonic() > self._deadline


def not_started(name: str, what: str, log: Path) -> ServiceStartError:
    """The error for a service that did not start, with the end of its log."""
    return ServiceStartError(f"{name} {what}; it said: {last_words(log)}", hint=f"see {log}")


def last_words(log: Path) -> str:
    """The last lines of a log, in one line."""
    try:
        with log.open(errors="replace") as file:
            lines = deque((line.strip() for line in file if line.strip()), maxlen=_LAST_LINES)
    except OSError:
        lines = deque()
    return " | ".join(lines) or "nothing"
