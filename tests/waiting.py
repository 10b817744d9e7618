"""Waiting for something to become true, with a deadline and with what was last seen."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

Seen = TypeVar("Seen")

_PAUSE = 0.02


def wait_until(condition: Callable[[], Seen], what: str, seconds: float = 30) -> Seen:
    """Ask until the answer is true and return it; fails with the last answer or error after these seconds."""
    never = threading.Event()
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = condition()
            last = f"last answer: {answer!r}"
        except Exception as error:
            answer, last = None, f"last error: {type(error).__name__}: {error}"
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s for: {what}; {last}", pytrace=True)
        never.wait(_PAUSE)
