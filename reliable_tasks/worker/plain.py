"""Executions that Celery's tracer would add nothing to: nobody looks on, and nothing follows."""

from celery import signals
from celery.app.task import Task

from reliable_tasks.worker.call import Call

_BEFORE, _AFTER, _SUCCESS = signals.task_prerun, signals.task_postrun, signals.task_success


def follows(call: Call) -> bool:
    """Whether a callback or a chain waits for it."""
    return any({**call.embed, "chord": None}.values())


def is_plain(call: Call) -> bool:
    """Whether no signal has a receiver, no hook of the task does anything, and no callback or chain waits.

    A chord's body may wait: its parts are counted where they are recorded. What the tracer does besides, for failures
    and retries, is left to it: see `Execution.run_plainly`.
    """
    task, cls = call.task, type(call.task)
    return (
        call.options is not None
        and not follows(call)
        and not (_BEFORE.receivers or _AFTER.receivers or _SUCCESS.receivers)
        and not (task.ignore_result or call.delivery.request.get("ignore_result"))
        and cls.__call__ is Task.__call__
        and cls.before_start is Task.before_start
        and cls.on_success is Task.on_success
        and cls.after_return is Task.after_return
    )
