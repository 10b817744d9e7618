"""Celery's worker program, with a pool of ours where it is one process."""

from typing import Any

from celery.apps.worker import Worker
from celery.concurrency import get_implementation, solo

from reliable_tasks.worker.node_pool import NodePool


class ReliableWorker(Worker):
    """As Celery's; but `-P solo` keeps time limits and heartbeats."""

    pool_cls: Any

    def setup_instance(self, **options: Any) -> None:
        if get_implementation(self.pool_cls) is solo.TaskPool:
            self.pool_cls = NodePool
        super().setup_instance(**options)
        if isinstance(self.pool, NodePool):
            self.pool.heartbeats.connection = lambda: self.consumer.connection
