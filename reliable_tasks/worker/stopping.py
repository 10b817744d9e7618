"""SIGQUIT in the middle of a write to the broker is answered a moment later: Celery's answer would wait for itself."""

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

AGAIN_SECONDS = 0.05
_HOLD_LOCKS = ("amqp.", "billiard.")
_HOLDS_NONE = "reliable_tasks.worker.node_pool"
"""Below it in the stack is who reads: no lock is held by what hands a delivery to a task."""


def stop_outside_of_locks() -> None:
    """Put this in front of Celery's handler of SIGQUIT (cold shutdown), in the process that calls it.

    Celery cancels its consumer within the handler, which writes to the broker. py-amqp holds a lock while it writes,
    one that its own thread cannot take twice: a signal that comes within a write would stop the worker for ever.
    """
    answer: Any = signal.getsignal(signal.SIGQUIT)
    if not callable(answer) or threading.current_thread() is not threading.main_thread():
        return
    worker = os.getpid()

    def asked(number: int, frame: FrameType | None) -> None:
        if os.getpid() == worker and any(_holds_locks(one) for one in _outwards(frame)):
            again = threading.Timer(AGAIN_SECONDS, os.kill, (worker, number))
            again.daemon = True
            again.start()
            return
        answer(number, frame)

    signal.signal(signal.SIGQUIT, asked)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_globals.get("__name__") != _HOLDS_NONE:
        yield frame
        frame = frame.f_back


def _holds_locks(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_HOLD_LOCKS)
