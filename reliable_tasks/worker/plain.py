"""Executions that Celery's tracer would add nothing to: nobody looks on, and nothing follows."""

from celery import signals
from celery.app.task import Task

from reliable_tasks.worker.call import Call

_SEEN = (signals.task_prerun, signals.task_postrun, signals.task_success)
_HOOKS = ("__call__", "before_start", "on_success", "after_return")


def follows(call: Call) -> bool:
    """Whether a callback or a chain waits for it."""
    return any(value for name, value in call.embed.items() if name != "chord")


def is_plain(call: Call) -> bool:
    """Whether no signal has a receiver, no hook of the task does anything, and no callback or chain waits.

    A chord's body may wait: its parts are counted where they are recorded. What the tracer does besides, for failures
    and retries, is left to it: see `Execution.run_plainly`.
    """
    task = call.task
    return (
        call.options is not None
        and not follows(call)
        and not any(signal.receivers for signal in _SEEN)
        and not (task.ignore_result or call.delivery.request.get("ignore_result"))
        and all(getattr(type(task), hook) is getattr(Task, hook) for hook in _HOOKS)
    )
