"""The parent's side of deliveries that are processed together: each pool process is given all that waits for it.

There is no timer. What comes while the processes are busy is what the next job takes, so that a task that comes alone
waits for nobody, and the more there is to do the more tasks share a commit.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from billiard.einfo import ExceptionInfo
from celery.concurrency import solo
from celery.utils.log import get_logger

from reliable_tasks import failpoints
from reliable_tasks.worker.ahead import trace_together
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.settling import settling

logger = get_logger("reliable_tasks.worker")

MOST = 16
"""Deliveries in one job of a pool with processes: so many wait at most behind a slow one."""

MOST_ALONE = 128
"""And where the pool is the worker's own process, which takes nothing new meanwhile."""


class Received(NamedTuple):
    """A delivery: what `worker.trace.trace` is called with, and where its broker is told what became of it."""

    channel: Any
    tag: int
    arguments: tuple[Any, ...]


def received(message: Any, channel: Any, queue: str | None, hostname: str) -> Received:
    """A message, kombu's or one that was read without it, as a request gives it to the pool."""
    headers, info, properties = message.headers, message.delivery_info, message.properties
    request = {
        **headers,
        "properties": properties,
        "reply_to": properties.get("reply_to"),
        "correlation_id": properties.get("correlation_id"),
        "hostname": hostname,
        "delivery_info": {
            "exchange": info.get("exchange"),
            "routing_key": info.get("routing_key"),
            "priority": properties.get("priority"),
            "redelivered": False,
        },
        "rt_queue": queue,
    }
    arguments = (
        headers["task"],
        headers["id"],
        request,
        # kombu's is a text where there is none
        b"" if message.body == "" else bytes(message.body),
        message.content_type,
        message.content_encoding,
        headers,
        properties.get("priority"),
    )
    return Received(channel, message.delivery_tag, arguments)


def can_go_together(worker: Any) -> bool:
    """Whether this is a pool of processes, or the worker's own: their answers come in the thread that reads.

    Not where somebody may ask the worker about single tasks, or counts those of a process.
    """
    asked = worker.app.conf.worker_enable_remote_control or worker.max_tasks_per_child
    return not asked and (bool(worker.pool.uses_semaphore) or isinstance(worker.pool, solo.TaskPool))


class Together:
    """What was received and is not settled, of one connection to the broker.

    Args:
        pool: Celery's; its processes are the ones that run it.
        hub: the event loop.
    """

    def __init__(self, pool: Any, hub: Any) -> None:
        self._pool = pool
        self._hub = hub
        self._waiting: deque[Received] = deque()
        self._under_way = 0
        self._sending = False
        alone = not pool.uses_semaphore
        self._jobs = 1 if alone else 2 * int(pool.limit)
        self._most = MOST_ALONE if alone else MOST

    def add(self, received: Received) -> None:
        """Take a delivery; `send` hands it over, at the latest when the loop comes round."""
        if not self._waiting:
            # what comes while the consumer is being started is read by nobody's `read_at_once`; not by call_soon,
            # which the loop may look at after it has waited for events, up to half a second
            self._hub.call_later(0, self.send)
        self._waiting.append(received)

    def send(self) -> None:
        """Give the pool what waits, as long as it has not enough to do."""
        if self._sending:
            return  # the pool is this very process, and has just done what the loop below gave it
        self._sending = True
        try:
            while self._waiting and self._under_way < self._jobs:
                self._hand_over([self._waiting.popleft() for _ in range(min(self._most, self._share()))])
        finally:
            self._sending = False

    def forget(self) -> None:
        """The connection is gone: what waits will come again over another."""
        self._waiting.clear()

    def _hand_over(self, chosen: Sequence[Received]) -> None:
        self._under_way += 1
        self._pool.apply_async(
            trace_together,
            args=([one.arguments for one in chosen],),
            callback=lambda answer: self._settle(chosen, answer),
            error_callback=lambda lost, **_unused: self._settle(chosen, lost),
        )

    def _share(self) -> int:
        """How many of those that wait one job takes, so that the other processes have some too."""
        return -(-len(self._waiting) // (self._jobs - self._under_way))

    def _settle(self, chosen: Sequence[Received], answer: Any) -> None:
        self._under_way -= 1
        with settling(chosen[0].channel):
            if failpoints.ACTIVE:
                failpoints.reach(
                    "worker.parent_before_settle", getattr(chosen[0].channel.connection, "sock", None)
                )
            if isinstance(answer, ExceptionInfo):
                logger.warning("%d tasks lost their process: they will be delivered again", len(chosen))
                answer = [Settlement.REQUEUE] * len(chosen)
            given = list(zip(chosen, answer, strict=True))
            self._waiting.extendleft(one for one, settlement in reversed(given) if settlement is None)
            self._tell(given)
        if failpoints.ACTIVE:
            failpoints.reach("worker.parent_after_settle")
        self.send()

    def _tell(self, given: Sequence[tuple[Received, Any]]) -> None:
        """Tell the broker what became of each; of one connection, so of one channel."""
        channel = given[0][0].channel
        channel.ack_all(one.tag for one, settlement in given if settlement == Settlement.ACK)
        for one, settlement in given:
            if settlement is not None and settlement != Settlement.ACK:
                channel.basic_reject(one.tag, requeue=settlement == Settlement.REQUEUE)
