"""Joins our log format into the handlers that Celery makes, and leaves those that somebody else made."""

import logging
from collections.abc import Callable
from typing import Any

from celery.app.defaults import DEFAULT_PROCESS_LOG_FMT, DEFAULT_TASK_LOG_FMT
from celery.app.log import TaskFormatter
from celery.signals import after_setup_logger, after_setup_task_logger, celeryd_init
from celery.utils.log import ColorFormatter

_CELERYS = {ColorFormatter: DEFAULT_PROCESS_LOG_FMT, TaskFormatter: DEFAULT_TASK_LOG_FMT}


def join_celery_logging(route: Callable[[], None], restyle: Callable[[logging.Handler], None] | None) -> None:
    """Route events to `logging` when a worker starts, and restyle the handlers that Celery has made.

    Celery sends the signals used here only where nobody has taken its logging over by `setup_logging`; a
    handler or a format that somebody configured is left as it is. `restyle` None leaves all of them.
    """

    def starting(**_: Any) -> None:
        route()

    def made(logger: logging.Logger, **_: Any) -> None:
        for handler in logger.handlers:
            if restyle is not None and _is_celerys_default(handler):
                restyle(handler)

    # one uid each: an application that is made twice in a process must not be asked twice
    celeryd_init.connect(starting, weak=False, dispatch_uid="reliable_tasks.logging.route")
    after_setup_logger.connect(made, weak=False, dispatch_uid="reliable_tasks.logging.root")
    after_setup_task_logger.connect(made, weak=False, dispatch_uid="reliable_tasks.logging.tasks")


def _is_celerys_default(handler: logging.Handler) -> bool:
    default = _CELERYS.get(type(handler.formatter))
    return default is not None and getattr(handler.formatter, "_fmt", "").strip() == default.strip()
