"""The session that a task's function is given: what the function raises undoes its effect, `Ignore` alone does not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.exceptions import Ignore

from reliable_tasks.store.sessions import session_in


@contextmanager
def function_session(connection: Any, undo: Callable[[], None]) -> Iterator[Any]:
    """A session in the connection's transaction.

    Args:
        undo: called when the function has failed.
    """
    ignored = None
    try:
        with session_in(connection) as session:
            try:
                yield session
            except Ignore as end:
                ignored = end  # no failure: `replace` ends so, too
    except BaseException:
        undo()
        raise
    if ignored is not None:
        raise ignored
