"""Runs loops until a signal: each in its own thread, reconnecting by itself with growing pauses."""

import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol

import structlog

from reliable_tasks.broker.dead_letter_source import DeadLetterSource
from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.errors import SettingError
from reliable_tasks.services.collector import Collector
from reliable_tasks.services.relay import Relay
from reliable_tasks.services.sweeper import Sweeper
from reliable_tasks.settings import Settings
from reliable_tasks.store.engine import create_engine

log = structlog.get_logger("reliable_tasks.services")

LONGEST_PAUSE_SECONDS = 5.0


class Loop(Protocol):
    """A service: one pass at a time."""

    name: str
    idle_seconds: float
    batch: int

    def run_once(self) -> int:
        """One pass; returns how much it did, 0 when there was nothing to do."""

    def close(self) -> None:
        """Give back what it holds."""


def _relay(settings: Settings, app: Any) -> Loop:
    return Relay(
        create_engine(settings.database.url_text()), Publisher(settings.broker.url_text(), app.runtime.route)
    )


def _collector(settings: Settings, app: Any) -> Loop:
    topology = app.runtime.topology
    source = DeadLetterSource(
        settings.broker.url_text(), topology.dead_letter_queues(), topology.unroutable_queues()
    )
    return Collector(
        create_engine(settings.database.url_text()),
        source,
        knows_task=lambda name: name in app.tasks,
        queue_of=app.queue_and_level,
        signer=app.runtime.signer,
    )


def _sweeper(settings: Settings, _app: Any) -> Loop:
    return Sweeper(
        create_engine(settings.database.url_text()),
        timedelta(seconds=settings.sweep_grace_seconds),
        timedelta(seconds=settings.key_retention_seconds),
    )


LOOPS: dict[str, Callable[[Settings, Any], Loop]] = {
    "relay": _relay,
    "collector": _collector,
    "sweeper": _sweeper,
}


def run(settings: Settings, app: Any, only: Sequence[str] | None = None) -> None:
    """Run the named loops (all by default) until SIGTERM or SIGINT.

    Raises:
        SettingError: for a loop that does not exist.
    """
    unknown = [name for name in only or () if name not in LOOPS]
    if unknown:
        raise SettingError(f"there is no loop {', '.join(unknown)}", hint=f"use {', '.join(LOOPS)}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    app.finalize()
    threads = [
        threading.Thread(target=keep_running, args=(LOOPS[name](settings, app), stop), name=name)
        for name in (only or LOOPS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def keep_running(loop: Loop, stop: threading.Event) -> None:
    """Run passes until `stop`; a failed pass is logged and tried again after a growing pause."""
    failures = 0
    while not stop.is_set():
        try:
            done = loop.run_once()
        except Exception as error:
            failures += 1
            log.warning("pass_failed", loop=loop.name, error=str(error), failures=failures)
            stop.wait(min(0.1 * 2 ** min(failures, 6), LONGEST_PAUSE_SECONDS))
            continue
        failures = 0
        if done < loop.batch:
            # what trickles in is worth gathering: a pass for each message costs more than the messages
            stop.wait(loop.idle_seconds)
    loop.close()
