"""How fast a round's work goes: when a fault is due, how long it took to recover from it, what came of it."""

import threading
import time
from bisect import bisect_right
from typing import Any, Self

import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.running import Run

SAMPLE_SECONDS = 0.25
AFTERWARDS_SECONDS = 5.0
"""What happens so long after a fault was healed counts as its consequence."""

RECOVERED_AFTER = 20
"""Executions that have ended since it was healed, when work counts as going on again."""

_DONE = text(
    "SELECT (SELECT count(*) FROM bank.effect_log WHERE amount > 0), "
    "(SELECT coalesce(max(id), 0) FROM reliable_tasks.attempts)"
)
_EVENTS = text(
    "SELECT kind, extract(epoch FROM at) FROM reliable_tasks.suppressed_deliveries UNION ALL "
    "SELECT 'takeover', extract(epoch FROM finished_at) FROM reliable_tasks.attempts WHERE state = 'lost'"
)
COUNTED = ("redelivered", "takeover", "fenced", "unknown")


class Pace:
    """Samples how much is done, four times a second."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._samples: list[tuple[float, int, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="pace", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def until_done(self, transfers: int, stalled_seconds: float) -> None:
        """Wait until as many transfers are done, or nothing has been done for so long."""
        changed, before = time.monotonic(), 0
        while not self._stop.wait(SAMPLE_SECONDS):
            done = self._samples[-1][1] if self._samples else 0
            if done != before:
                changed, before = time.monotonic(), done
            if done >= transfers or time.monotonic() - changed > stalled_seconds:
                return

    def recovery(self, healed: float) -> float | None:
        """Seconds from that moment until work went on; None when little was left to do."""
        place = bisect_right(self._samples, healed, key=lambda sample: sample[0])
        ended = self._samples[place - 1][2] if place else 0
        after = (sample[0] for sample in self._samples[place:] if sample[2] >= ended + RECOVERED_AFTER)
        moment = next(after, None)
        return None if moment is None else moment - healed

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                with self._engine.connect() as connection:
                    transfers, attempts = connection.execute(_DONE).one()
            except SQLAlchemyError:
                continue  # the database is away: nothing is done
            self._samples.append((time.time(), int(transfers), int(attempts)))


def happened(faults: list[dict[str, Any]], run: Run, pace: Pace) -> None:
    """Add to each fault what happened from its beginning until a little after it was healed."""
    with run.engine.connect() as connection:
        events = [(str(kind), float(at)) for kind, at in connection.execute(_EVENTS)]
    for line in run.history.lines():
        if line["op"] == "send" and line["phase"] == "unknown":
            events.append(("unknown", line["at"]))
        elif line["op"] == "begin" and line.get("redelivered"):
            events.append(("redelivered", line["at"]))
    for fault in faults:
        within = [kind for kind, at in events if fault["begun"] <= at <= fault["healed"] + AFTERWARDS_SECONDS]
        fault |= {kind: within.count(kind) for kind in COUNTED}
        fault["recovered"] = pace.recovery(fault["healed"]) if fault["fired"] else None
