"""Celery's worker program, with a pool of ours where it is one process."""

from typing import Any

from celery import signals
from celery.apps.worker import Worker
from celery.concurrency import get_implementation, solo
from celery.exceptions import ImproperlyConfigured
from celery.utils.text import str_to_list

from reliable_tasks.errors import UnknownQueue
from reliable_tasks.worker.before_forks import import_once
from reliable_tasks.worker.node_pool import NodePool
from reliable_tasks.worker.telling import end_program


class ReliableWorker(Worker):
    """As Celery's; but `-P solo` keeps time limits and heartbeats."""

    pool_cls: Any

    def setup_queues(self, include: Any, exclude: Any = None) -> None:
        """As Celery's; a queue of -Q that the topology does not declare ends the program."""
        known = list(self.app.amqp.queues)
        try:
            super().setup_queues(include, exclude)
        except ImproperlyConfigured:
            unknown = ", ".join(name for name in str_to_list(include) if name not in known)
            raise end_program(
                UnknownQueue(
                    f"there is no queue {unknown} in the topology",
                    hint=f"declare it there or use one of {', '.join(known)}",
                )
            ) from None

    def setup_instance(self, **options: Any) -> None:
        if get_implementation(self.pool_cls) is solo.TaskPool:
            self.pool_cls = NodePool
        signals.worker_before_create_process.connect(self._before_fork, weak=False)
        super().setup_instance(**options)
        if isinstance(self.pool, NodePool):
            self.pool.heartbeats.connection = lambda: self.consumer.connection

    def _before_fork(self, **_unused: Any) -> None:
        signals.worker_before_create_process.disconnect(self._before_fork)  # those to come have it all
        import_once(self.app)
