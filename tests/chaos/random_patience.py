"""A fault of the random tier: the broker takes back what a worker holds longer than its consumer timeout."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.broker_faults import everybody_connects_anew, impatient_queues
from tests.chaos.random_field import WORKERS, Entry, Field
from tests.impatience import PATIENCE_MS, impatient

_OURS = "^(payments|notifications)"
_TOOK_BACK = re.compile(rb"Timeout (value )?used")
"""What the broker's log says of it, in all releases."""


def _taken_back(field: Field) -> bool:
    """A worker stands still with what it has fetched; others are given it; then it goes on with what it had begun."""
    worker = field.chance.choice(WORKERS)
    with _broker_is_impatient(field):
        moment = time.time()
        if not field.wait(lambda: field.has_begun(worker, moment)):
            return False
        before = _times_taken_back(field)
        stopped = time.time()
        field.signal(worker, signal.SIGSTOP)
        try:
            taken = field.wait(lambda: _times_taken_back(field) > before)
            again = field.wait(lambda: _redelivered(field, stopped))
        finally:
            field.signal(worker, signal.SIGCONT)
        field.hold(1.0, 3.0)
    return taken and again


@contextmanager
def _broker_is_impatient(field: Field) -> Iterator[None]:
    """Two seconds instead of thirty minutes, for channels that are opened meanwhile, or for queues."""
    if field.cluster is not None:
        with impatient_queues(field.run.around, _OURS, PATIENCE_MS):
            yield
        return
    with impatient(field.stack):
        everybody_connects_anew(field.stack)
        yield
    everybody_connects_anew(field.stack)


def _redelivered(field: Field, moment: float) -> bool:
    return any(line["op"] == "begin" and line["redelivered"] for line in field.since(moment))


def _times_taken_back(field: Field) -> int:
    nodes = [node.home for node in field.cluster.nodes] if field.cluster else [_home(field)]
    logs = [log for node in nodes for log in (node / "log").glob("*.log")]
    return sum(len(_TOOK_BACK.findall(log.read_bytes())) for log in logs)


def _home(field: Field) -> Path:
    return field.stack.broker.log.parent


PATIENCE = (
    Entry("the broker takes back what a worker that stands still has fetched", ("F29",), _taken_back),
)
