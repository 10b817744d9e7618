"""The application itself, and the marks in files by which its tasks and the tests tell each other things."""

import os
import time
from pathlib import Path

from reliable_tasks import ReliableCelery, Retry

REMOTE_CONTROL = os.environ.get("BEHAVIOUR_REMOTE_CONTROL", "1") == "1"
PLACE = Path(os.environ.get("TESTS_PLACE", "."))
"""Where tasks leave marks that tests wait for: what happened outside the database."""

app = ReliableCelery("behaviour", topology="topology:TOPOLOGY", remote_control=REMOTE_CONTROL)
app.conf.beat_schedule = {
    "tick": {
        "task": "behaviour.tick",
        "schedule": 0.5,
        "args": ("beat",),
        "options": {"queue": "notifications"},
    }
}
QUICK = Retry(max_attempts=3, base_seconds=0.05, jitter=0)


def mark(name: str) -> int:
    """Append a line to a file; returns how many there are now."""
    with (PLACE / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len((PLACE / name).read_text().splitlines())


def wait_for(name: str, seconds: float = 30) -> None:
    """Until a test has made this file."""
    deadline = time.monotonic() + seconds
    while not (PLACE / name).exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # between looks for the file
