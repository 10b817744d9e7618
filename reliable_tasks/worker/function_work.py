"""What a task's function is given to work with: what it raises undoes its effect, `Ignore` alone does not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.exceptions import Ignore

from reliable_tasks.store.sessions import Work, work_on


@contextmanager
def function_work(lent: Any, connect: Callable[[], Any], undo: Callable[[], None]) -> Iterator[Work]:
    """Work in the transaction of a lent connection.

    Args:
        connect: gives SQLAlchemy's connection on it.
        undo: called when the function has failed.
    """
    ignored = None
    try:
        with work_on(lent, connect) as work:
            try:
                yield work
            except Ignore as end:
                ignored = end  # no failure: `replace` ends so, too
    except BaseException:
        undo()
        raise
    if ignored is not None:
        raise ignored
