"""A fault of the random tier: the broker takes back what a worker holds longer than its consumer timeout."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.broker_faults import consumers, everybody_connects_anew, impatient_queues
from tests.chaos.random_field import WORKERS, Entry, Field
from tests.impatience import PATIENCE_MS, impatient

_QUEUES = ("payments", "notifications")
_TRIES = 3
"""It may have just finished what it was at, and hold nothing."""


def _taken_back(field: Field) -> bool:
    """A worker stands still with what it has fetched; others are given it; then it goes on with what it had begun."""
    worker = field.chance.choice(WORKERS)
    with _broker_is_impatient(field):
        fired = any(_stands_still(field, worker) for _ in range(_TRIES))
        # long enough for it to find out what it has lost
        field.hold(1.0, 3.0)
    return fired


def _stands_still(field: Field, worker: str) -> bool:
    all_there = len(WORKERS) * len(_QUEUES)
    if not field.wait(lambda: _consumers(field) == all_there):
        return False
    # so much at once that it has fetched more than it is at
    field.more()
    pids = {process.pid for process in field.run.children(worker)}
    if field.executing(lambda line: line["pid"] in pids) is None:
        return False
    moment = time.time()
    field.signal(worker, signal.SIGSTOP)
    try:
        # 4.3 goes on counting a consumer that it has cancelled so
        gone = field.cluster is not None or field.wait(lambda: _consumers(field) < all_there, 10)
        return gone and field.wait(lambda: _delivered_again(field, moment), 10)
    finally:
        field.signal(worker, signal.SIGCONT)


def _consumers(field: Field) -> int:
    return sum(consumers(field.run.around, queue) for queue in _QUEUES)


def _delivered_again(field: Field, moment: float) -> bool:
    """Executed by somebody else, or put off because the worker that stands still is not done with it."""
    if any(line["op"] == "begin" and line["redelivered"] for line in field.since(moment)):
        return True
    since = f"at > to_timestamp({moment})"
    return (
        field.count(f"reliable_tasks.suppressed_deliveries WHERE kind IN ('busy', 'redelivered') AND {since}")
        > 0
    )


@contextmanager
def _broker_is_impatient(field: Field) -> Iterator[None]:
    """Two seconds instead of thirty minutes, for channels that are opened meanwhile, or for queues."""
    if field.cluster is not None:
        with impatient_queues(field.run.around, f"^({'|'.join(_QUEUES)})", PATIENCE_MS):
            yield
        return
    with impatient(field.stack):
        everybody_connects_anew(field.stack)
        yield
    everybody_connects_anew(field.stack)


PATIENCE = (
    Entry("the broker takes back what a worker that stands still has fetched", ("F29",), _taken_back),
)
