"""Heartbeats to the broker while a task holds up the loop that would send them."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

_EACH = 4
"""Heartbeats in one interval: the broker hangs up when two intervals went by without any."""

_UNCONNECTED_SECONDS = 5.0


class Heartbeats:
    """A context in which a thread sends what the loop cannot.

    Within it, and only there, nobody else may write to the connection: py-amqp is not made for two threads. Leaving
    it waits for a heartbeat that is just being written.
    """

    def __init__(self) -> None:
        self.connection: Callable[[], Any] = lambda: None
        """Finds kombu's connection; None while there is none."""

        self._lock = threading.Lock()
        self._held_up = False

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        threading.Thread(target=self._beat, name="heartbeats", daemon=True).start()

    def __enter__(self) -> None:
        self._held_up = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._held_up = False

    def _beat(self) -> None:
        never = threading.Event()
        while True:
            never.wait(self._seconds())
            with self._lock:
                wire = self._wire() if self._held_up else None
                # the loop finds out itself what is wrong with its connection
                with suppress(Exception):
                    if wire is not None:
                        wire.send_heartbeat()
                        # nobody has looked for the broker's, so none were missed
                        wire.last_heartbeat_received = time.monotonic()

    def _seconds(self) -> float:
        wire = self._wire()
        return wire.heartbeat / _EACH if wire is not None and wire.heartbeat else _UNCONNECTED_SECONDS

    def _wire(self) -> Any:
        # under its public name it would connect, which is for the loop to do
        wire = getattr(self.connection(), "_connection", None)
        return wire if wire is not None and wire.connected else None
