"""How a Celery program ends that must not start: an error line, a hint line, the error's exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from reliable_tasks.errors import ReliableTasksError


def end_program(error: ReliableTasksError) -> SystemExit:
    """Tell the error on standard error; raise what is returned."""
    # in a worker, Celery has made sys.stderr a log
    stderr = sys.__stderr__ or sys.stderr
    stderr.write(f"error[{error.code}]: {error.message}\n")
    if error.hint:
        stderr.write(f"hint: {error.hint}\n")
    stderr.flush()
    return SystemExit(error.exit_code)


@contextmanager
def told_by_celery() -> Iterator[None]:
    """While the `celery` program imports an application, end it with our two lines; else let errors pass.

    Celery itself would show the traceback of its own search for the application, with our error somewhere in it.
    """
    try:
        yield
    except ReliableTasksError as error:
        main = getattr(sys.modules.get("__main__"), "__spec__", None)
        if (main is not None and main.name == "celery.__main__") or sys.argv[0].endswith("/celery"):
            raise end_program(error) from None
        raise
