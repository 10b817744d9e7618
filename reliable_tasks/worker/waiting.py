"""Wait for results: woken when they are committed, looking now and then all the same."""

import time
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

import structlog
from celery.exceptions import TimeoutError

from reliable_tasks.store import results
from reliable_tasks.store.engine import begin, is_outage
from reliable_tasks.store.listening import listener_of

log = structlog.get_logger("reliable_tasks.waiting")

MOST_AT_ONCE = 500
"""Results that are waited for and read together: of a million, no more than these are in memory for the wait."""

_FIRST_LOOK_SECONDS = 0.02


def each_ended(
    engine: Any,
    task_ids: Iterable[str],
    *,
    timeout: float | None = None,
    interval: float = 0.5,
    on_interval: Any = None,
) -> Iterator[dict[str, Any]]:
    """The result rows of all these tasks, as they end; of a few hundred at a time.

    While the database is away it is as if they had not ended yet.

    Args:
        timeout: for all of them together.
        interval: how often to look while no notification comes; at first more often while none could come.
        on_interval: called whenever it has looked in vain.

    Raises:
        TimeoutError: Celery's.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    interval = max(interval, _FIRST_LOOK_SECONDS)
    for some in in_parts(task_ids):
        yield from _some_ended(engine, some, deadline, interval, on_interval)


def _some_ended(
    engine: Any, left: set[str], deadline: float | None, interval: float, on_interval: Any
) -> Iterator[dict[str, Any]]:
    listener, pause, told = listener_of(engine), _FIRST_LOOK_SECONDS, True
    with listener.waiting_for(left) as waiting:
        while True:
            waiting.expect(left)
            found = _ended_if_it_tells(engine, left, warn=told)
            told = found is not None
            for row in found or ():
                left.discard(row["task_id"])
                yield row
            if not left:
                return
            if on_interval:
                on_interval()
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("The operation timed out.")
            pause = interval if listener.hears else min(pause * 1.1, interval)
            waiting.pause(pause if deadline is None else max(min(pause, deadline - time.monotonic()), 0))


def in_parts(task_ids: Iterable[str]) -> Iterator[set[str]]:
    """A few hundred at a time."""
    rest = iter(task_ids)
    while some := set(islice(rest, MOST_AT_ONCE)):
        yield some


def ended_now(engine: Any, task_ids: Collection[str]) -> list[dict[str, Any]]:
    """The rows of those that have ended."""
    with begin(engine) as connection:
        return results.ended(connection, task_ids)


def _ended_if_it_tells(engine: Any, task_ids: Collection[str], *, warn: bool) -> list[dict[str, Any]] | None:
    """The same; None while the database is away."""
    try:
        return ended_now(engine, task_ids)
    except Exception as error:
        if not is_outage(error):
            raise
        if warn:
            log.warning("results_not_read", error=str(error))
        return None
