"""The task classes: plain Celery tasks on our worker, and idempotent ones."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from celery import Task

from reliable_tasks.errors import TaskDeclarationError
from reliable_tasks.store.identity import new_task_id
from reliable_tasks.worker.arguments import Arguments, to_wire
from reliable_tasks.worker.options import TaskOptions
from reliable_tasks.worker.sending_alike import send_alike
from reliable_tasks.worker.unit import current_unit


class ReliableTask(Task):
    """Any task of a ReliableCelery application: acked after its result is committed, failures dead-lettered."""

    Strategy = "reliable_tasks.worker.strategy:reliable"
    Request = "reliable_tasks.worker.request:ReliableRequest"
    acks_late = True
    acks_on_failure = False
    reject_on_worker_lost = True
    dead_letter = True
    reliable_options: TaskOptions | None = None
    reliable_arguments: Arguments | None = None

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As Celery's; the arguments of an idempotent task are checked before anything is sent.

        Raises:
            ArgumentError: when they do not fit the function, or a float stands for money.
        """
        unit = current_unit.get()
        if unit is not None and self.app.conf.task_always_eager:
            args, kwargs = self.for_sending(args, kwargs, partial=self._partial(options))
            options["task_id"] = options.get("task_id") or new_task_id()
            unit.after_commit.append(functools.partial(super().apply_async, args, kwargs, **options))
            return self.AsyncResult(options["task_id"])

        def send() -> Any:
            sent_args, sent_kwargs = self.for_sending(args, kwargs, partial=self._partial(options))
            return super(ReliableTask, self).apply_async(sent_args, sent_kwargs, **options)

        return send_alike(self, args, kwargs, options, send)

    @property
    def sends_plainly(self) -> bool:
        """Whether it is sent as ours are, and not in a way of its own."""
        cls = type(self)
        return (
            "apply_async" not in vars(self)
            and cls.apply_async is ReliableTask.apply_async
            and cls.for_sending is ReliableTask.for_sending
            and cls.shadow_name is ReliableTask.shadow_name
            and cls.AsyncResult is ReliableTask.AsyncResult
            and self._dump_pydantic_arguments is None
        )

    def for_sending(
        self, args: Any, kwargs: Any, *, partial: bool = False
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as they travel; those of an idempotent task are checked.

        Args:
            partial: others will come with them, so that they need not be all.

        Raises:
            ArgumentError: when they do not fit the function, or a float stands for money.
        """
        if self.reliable_arguments is not None and self.reliable_options is not None and not partial:
            self.reliable_options.key_for(self.reliable_arguments.bind(args or (), kwargs or {}))
        return to_wire(list(args or ())), to_wire(dict(kwargs)) if kwargs else {}

    def signature_from_request(
        self,
        request: Any = None,
        args: Any = None,
        kwargs: Any = None,
        queue: str | None = None,
        **options: Any,
    ) -> Any:
        """As Celery's, for a retry; but it stays in its declared queue, at its priority.

        Celery would repeat exchange and routing key, which are those of one level on one version of the broker.
        """
        request = request or self.request
        came_from = getattr(request, "rt_queue", None) or (request.delivery_info or {}).get("routing_key")
        name, _level = self.app.queue_and_level(came_from or "")
        if queue is None and self.app.runtime.topology.has_queue(name):
            queue = name
            options.setdefault("priority", getattr(request, "rt_priority", None))
        return super().signature_from_request(request, args, kwargs, queue, **options)

    @staticmethod
    def _partial(options: dict[str, Any]) -> bool:
        return bool(options.get("chord") or options.get("retries"))


class IdempotentTask(ReliableTask):
    """A task with a key: its effect happens once."""

    abstract = True
    max_retries = None

    @property
    def queue(self) -> str | None:
        """The declared queue. Not an attribute of each task, of which Celery warns when it binds one."""
        return self.reliable_options.queue if self.reliable_options else None

    def call_function(self, context: Any, arguments: dict[str, Any]) -> Any:
        """The user's function with its context and its arguments by name."""
        known: Any = self.reliable_arguments
        head = (self, context) if self.reliable_bind else (context,)
        if known.only_names:
            return self.reliable_function(*head, **arguments)
        bound = inspect.BoundArguments(known.signature, dict(arguments))
        return self.reliable_function(*head, *bound.args, **bound.kwargs)


def idempotent_run(function: Callable[..., Any], *, bind: bool) -> Callable[..., Any]:
    """The `run` that Celery sees: the signature without the context, the body found through the execution."""

    @functools.wraps(function)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        from reliable_tasks.worker.execution import current_execution
        from reliable_tasks.worker.inline import run_inline

        execution = current_execution.get()
        # a task that calls itself, as a function, is another call with a key of its own
        if execution is None or execution.begun or execution.call.task.name != self.name:
            return run_inline(self, args, kwargs)
        return execution.run(self, args, kwargs)

    parameters = list(inspect.signature(function).parameters.values())[2 if bind else 1 :]
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    if any(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters) is False:
        first = first.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD, name="self_")
    run.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]  # what inspect looks for first
    del run.__wrapped__
    return run


def attributes_of(function: Callable[..., Any], options: TaskOptions, *, bind: bool) -> dict[str, Any]:
    """What the decorator gives to the task class.

    Raises:
        TaskDeclarationError: when the function cannot be run as one call, or lacks what its key is made of.
    """
    if any(
        is_one(function)
        for is_one in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    ):
        raise TaskDeclarationError(
            f"{function.__qualname__} is asynchronous or a generator: calling it would do nothing",
            hint="make it a plain function; in it, asyncio.run(...) runs a coroutine to its end",
        )
    parameters = list(inspect.signature(function).parameters.values())[2 if bind else 1 :]
    open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    missing = set(options.key_fields()) - {each.name for each in parameters}
    if missing and not open_ended:
        raise TaskDeclarationError(
            f"the key {options.key!r} is made of {', '.join(sorted(missing))}, which {function.__qualname__} "
            "does not take",
            hint="its parameters are a context, and then what the key may be made of",
        )
    return {
        "reliable_function": staticmethod(function),
        "reliable_options": options,
        "reliable_arguments": Arguments(function, 2 if bind else 1),
        "reliable_bind": bind,
    }
