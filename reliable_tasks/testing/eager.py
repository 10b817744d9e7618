"""Eager mode for tests without broker and worker: tasks run where they are sent, claims and results are real."""

from collections.abc import Iterator
from contextlib import contextmanager

from reliable_tasks.app import ReliableCelery


@contextmanager
def eager(app: ReliableCelery) -> Iterator[None]:
    """Run every task of `app` at once, in this process, against the real database.

    An idempotent task still claims its key, runs in its transaction and records its result; what it sends runs
    after its commit, and not at all when it fails. Nothing is retried: exceptions reach the caller.
    """
    before = app.conf.task_always_eager, app.conf.task_eager_propagates
    app.conf.task_always_eager, app.conf.task_eager_propagates = True, True
    try:
        yield
    finally:
        app.conf.task_always_eager, app.conf.task_eager_propagates = before
