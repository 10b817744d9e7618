"""Reliable tasks: nothing accepted is lost, no effect happens twice, every failure is kept and replayable.

A task's way, and where to read about it:

1. publish   `worker.publishing`   confirmed publish, or an outbox row in the caller's transaction
2. relay     `services.relay`      due outbox rows to the broker, deleted after the confirm
3. deliver   `worker.strategy`     a message from a quorum queue to the pool
4. process   `worker.delivery`     verify, decode, claim, execute, record, settle: one function
5. settle    `worker.request`      ack or reject, after the commit
6. retry     `model.retry`         decided purely; the next attempt is an outbox row of the same commit
7. collect   `services.collector`  dead-letter queues into Postgres
8. replay    `operate.dead_letters`  a dead letter back to its queue, same key, under an operator's name
"""

from typing import TYPE_CHECKING, Any

from reliable_tasks.errors import PermanentError, ReliableTasksError, TransientError, UncertainEffect
from reliable_tasks.model.retry import Retry

if TYPE_CHECKING:
    from reliable_tasks.app import ReliableCelery
    from reliable_tasks.worker.context import TaskContext
    from reliable_tasks.worker.options import CallAgain, Probe

__all__ = [
    "CallAgain",
    "PermanentError",
    "Probe",
    "ReliableCelery",
    "ReliableTasksError",
    "Retry",
    "TaskContext",
    "TransientError",
    "UncertainEffect",
]

_LAZY = {
    "ReliableCelery": "reliable_tasks.app",
    "TaskContext": "reliable_tasks.worker.context",
    "CallAgain": "reliable_tasks.worker.options",
    "Probe": "reliable_tasks.worker.options",
}
"""Imported when asked for: errors and models must be usable without loading Celery."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
