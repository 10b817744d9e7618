"""How many messages a worker holds of each queue: many where tasks share commits, few where each takes its time.

A quorum queue's limit is that of its consumer: what the channel's was when the consumer began.
"""

from typing import Any

from reliable_tasks.model.retry import Effects
from reliable_tasks.worker.options import TaskOptions
from reliable_tasks.worker.usual import can_be_usual

unchosen = 4
"""Messages for each process where nobody has chosen, as Celery has it; any other number holds for all queues."""

TOGETHER = 32
"""For each process of a pool, of a queue all of whose tasks share commits: two jobs of 16."""

TOGETHER_ALONE = 256
"""And where the pool is the worker's own process: what comes while one job is done fills the next."""


def widen(consumer: Any) -> None:
    """Let the consumers that a worker's consumer is about to begin hold as much as their queues' tasks can use."""
    if consumer.together is None or consumer.prefetch_multiplier != unchosen:
        return
    wide = _queues_that_share_commits(consumer.app)
    alone = not consumer.pool.uses_semaphore
    most = TOGETHER_ALONE if alone else TOGETHER * consumer.pool.num_processes
    task_consumer = consumer.task_consumer
    begin = task_consumer._basic_consume

    def basic_consume(queue: Any, *args: Any, **options: Any) -> Any:
        name, _level = consumer.app.queue_and_level(queue.name, None)
        count = most if name in wide else consumer.initial_prefetch_count
        task_consumer.channel.basic_qos(0, count, False)
        return begin(queue, *args, **options)

    task_consumer._basic_consume = basic_consume


def _queues_that_share_commits(app: Any) -> set[str]:
    """The declared queues to which, by their declarations, only tasks go that share commits."""
    found: dict[str, bool] = {}
    for task in app.tasks.values():
        if getattr(task, "reliable_options", None) is not None:
            name = task.queue or app.runtime.topology.default_queue
            found[name] = found.get(name, True) and can_be_usual(task) and _shares(task.reliable_options)
    return {name for name, usual in found.items() if usual}


def _shares(options: TaskOptions) -> bool:
    return options.effects is Effects.NONE or options.batch > 1
