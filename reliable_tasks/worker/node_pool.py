"""The pool of a worker that is one process, without what Celery's gives up: time limits and heartbeats."""

import os
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from celery.concurrency import prefork, solo
from celery.concurrency.base import apply_target
from kombu.asynchronous import Hub, get_event_loop

from reliable_tasks.worker.heartbeats import Heartbeats

_ENDS_ITS_PROCESS = ("timeout", "soft_timeout", "maxtasksperchild", "max_memory_per_child")
"""What a job or the worker may want, and only a process that is not the worker itself can give."""


class NodePool(solo.TaskPool):
    """Executes in the worker's own process; what may have to be ended, in one beside it, which Celery's pool makes.

    One task at a time all the same: while this process executes, nobody would look at the limits of the other.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.heartbeats = Heartbeats()
        self._executing = False
        self._beside: prefork.TaskPool | None = None
        self._under_way: object | None = None
        self._job: Any = None
        self._waiting: deque[tuple[Any, Any, Any, dict[str, Any]]] = deque()

    def on_start(self) -> None:
        self.heartbeats.start()

    def apply_async(self, target: Any, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        """Execute it now; or later, while the process beside this one is busy."""
        if self._under_way is not None:
            self._waiting.append((target, args, kwargs, options))
            return None
        if any(options.get(name) or self.options.get(name) for name in _ENDS_ITS_PROCESS):
            return self._execute_beside(target, args, kwargs, **options)
        return apply_target(self._execute, (target, args, kwargs), **options)

    def _execute(self, target: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._executing = True
        try:
            with self.heartbeats:
                return target(*args, **(kwargs or {}))
        finally:
            self._executing = False

    def _execute_beside(self, target: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        job = self._under_way = object()
        at_limit = options.get("timeout_callback")

        def on_timeout(soft: bool, timeout: float) -> None:
            if not soft:
                self._end(job)  # what records it comes before all that waits
            if at_limit is not None:
                at_limit(soft=soft, timeout=timeout)

        def ending(then: Any) -> Callable[..., None]:
            def ended(*answer: Any, **details: Any) -> None:
                try:
                    then(*answer, **details)
                finally:
                    self._end(job)

            return ended

        options["timeout_callback"] = on_timeout
        for name in ("callback", "error_callback"):
            options[name] = ending(options[name])
        self._job = self._process_beside().apply_async(target, args, kwargs, **options)
        return self._job

    def _process_beside(self) -> Any:
        if self._beside is None:
            self._beside = prefork.TaskPool(1, putlocks=False, app=self.app, **self.options)
            self._beside.start()
            self._beside.register_with_event_loop(_loop())
        return self._beside

    def _end(self, job: object) -> None:
        if self._under_way is job:
            self._under_way = None
            _loop().call_soon(self._next)

    def _next(self) -> None:
        while self._waiting and self._under_way is None and self.active:
            target, args, kwargs, options = self._waiting.popleft()
            self.apply_async(target, args, kwargs, **options)

    def register_with_event_loop(self, loop: Any) -> None:
        # which looks up only once, before it begins, what the pool that may come later will want to be called
        loop.consolidate_callback = lambda files: loop.consolidate_callback(files)
        if self._beside is not None:
            self._beside.register_with_event_loop(loop)

    def flush(self) -> None:
        """The connection is gone: what waits will come again over another."""
        self._waiting.clear()
        if self._beside is not None:
            self._beside.flush()
            if self._job is None or not self._job.accepted():
                self._under_way = None  # it was thrown away, and nobody will say that it has ended

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """End the process that executes a task; where it is this one, somebody ends the worker in the midst of it."""
        if self._executing:
            _end_now()
        if self._beside is not None:
            self._beside.terminate_job(pid, signal)

    def on_close(self) -> None:
        if self._beside is not None:
            self._beside.close()

    def on_stop(self) -> None:
        if self._executing:
            _end_now()
        if self._beside is not None:
            self._beside.stop()

    def on_terminate(self) -> None:
        if self._beside is not None:
            self._beside.terminate()


def _loop() -> Hub:
    loop = get_event_loop()
    assert loop is not None  # the worker has made it
    return loop


def _end_now() -> NoReturn:
    # within the handler of a cold shutdown: nothing of the task is committed, and the broker takes its message back
    os._exit(0)
