"""Which application the worker of this process runs: tasks may create others, and Celery then calls those current."""

from typing import Any

from celery import _state


def running_app() -> Any:
    """The worker's application, made the current one of this thread again.

    A task that makes a `Celery(...)` of its own, to send elsewhere for example, would else be the last one here that
    can be processed: every delivery after it would be looked up in an application that does not know it.
    """
    app = _state.default_app  # set when the worker starts, and again in each process of its pool
    app.set_current()
    return app
