"""A delivery in the worker's parent process: handed to the pool, and settled by what comes back."""

from typing import Any

from billiard.common import TERM_SIGNAME
from billiard.einfo import ExceptionInfo
from celery.exceptions import TaskRevokedError, Terminated, TimeLimitExceeded, WorkerLostError
from celery.platforms import signals
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import revoked, task_ready

from reliable_tasks import failpoints
from reliable_tasks.errors import MessageRefused
from reliable_tasks.model.envelope import replay_number
from reliable_tasks.model.retry import Effects
from reliable_tasks.worker.call import delivery_of, verify
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.settling import settling
from reliable_tasks.worker.timeouts import end_process, record_timeout

logger = get_logger("reliable_tasks.worker")


class ReliableRequest(Request):
    """Settles only by the pool's answer, which is given after the commit."""

    _settled = False
    physical_queue: str | None = None
    """The queue that it came from; a routing key only says where its sender wanted it."""

    def __init__(self, message: Any, **options: Any) -> None:
        # Celery decodes the body here, before anybody has verified it, and would send the arguments twice; and it
        # reads times by rules of its own, which the pool does not use
        times = {name: message.headers[name] for name in ("eta", "expires") if name in message.headers}
        headers = {name: value for name, value in message.headers.items() if name not in times}
        super().__init__(message, **{**options, "headers": headers, "body": ((), {}, {}), "decoded": True})
        self.request_dict.update(times)
        self._body = message.body
        self._content_type, self._content_encoding = message.content_type, message.content_encoding

    @property
    def _external(self) -> bool:
        options = getattr(self.task, "reliable_options", None)
        return options is not None and options.effects is Effects.EXTERNAL

    @property
    def store_errors(self) -> bool:
        """Always: a message that is answered without running has its row, even where results are ignored."""
        return True

    def pool_arguments(self) -> tuple[Any, ...]:
        """What `worker.trace.trace` is called with, in the pool process."""
        body = self.body
        return (
            self.type,
            self.task_id,
            {**self.request_dict, "rt_queue": self.physical_queue},
            body.encode() if isinstance(body, str) else bytes(body),
            self.content_type,
            self.content_encoding,
            dict(self.message.headers or {}),
            dict(self.message.properties or {}).get("priority"),
        )

    def settle(self, answer: Any) -> None:
        """Tell the broker what the pool process has committed."""
        if isinstance(answer, ExceptionInfo):
            # how a pool of threads says that the call itself was ended
            self.lost(answer)
            return
        _failed, settlement, runtime = answer
        task_ready(self, successful=settlement == Settlement.ACK)
        self._answer(Settlement(settlement))
        self.send_event("task-succeeded" if settlement == Settlement.ACK else "task-failed", runtime=runtime)

    def lost(self, exc_info: Any, **_unused: Any) -> None:
        """The pool process died or was ended: nothing was committed, so the message must come again."""
        task_ready(self)
        error = getattr(exc_info, "exception", exc_info)
        error = getattr(error, "exc", error)
        # a cold shutdown ends processes, too: nobody has asked to cancel what they were at
        asked = not self._already_revoked and not self._already_cancelled
        if isinstance(error, Terminated) and not self._external and asked:
            self._announce_revoked("terminated", True, str(error), False)
            self._answer(Settlement.ACK)
            return
        if isinstance(error, TimeLimitExceeded):
            return  # on_timeout has recorded and settled it
        if isinstance(error, WorkerLostError):
            logger.warning("Task %s[%s] lost its process: it will be delivered again", self.name, self.id)
        else:
            logger.error("Task %s[%s] was not processed: %r", self.name, self.id, error)
        self._answer(Settlement.REQUEUE)

    def revoked(self) -> bool:
        """As Celery's; but where an earlier delivery may have called something outside, the claim decides.

        And a forged message goes to the pool, to be refused there: anybody can claim the id of a revoked task.
        """
        if self._external and self.delivery_info.get("redelivered"):
            return False
        if (self.id in revoked or self.stamped_headers) and not self._genuine():
            return False
        return bool(super().revoked())

    def _genuine(self) -> bool:
        try:
            verify(self.app.runtime, delivery_of(self.app, *self.pool_arguments()))
        except MessageRefused:
            return False
        return True

    def maybe_expire(self) -> bool | None:
        """As Celery's; but an operator who replays a task wants it run.

        With signing on, the pool decides it, after verifying: a forged message would end the true one of its id.
        And for an external task, whose claim knows whether its call has begun.
        """
        if self.app.runtime.signer.on or self._external or replay_number(self.request_dict):
            return None
        return bool(super().maybe_expire())

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """As Celery's; but a call to something outside may have happened, so its task is not just cancelled."""
        if self._external and self.time_start:
            logger.warning("Task %s[%s] is ended in its call: its outcome is uncertain", self.name, self.id)
            revoked.discard(self.id)  # or the next delivery, which finds out, would be thrown away
            pool.terminate_job(self.worker_pid, signals.signum(signal or TERM_SIGNAME))
            return
        if self._genuine():
            super().terminate(pool, signal)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """A hard time limit ends the process: record that, then settle.

        An external task comes again, and asks what became of its call.
        """
        if soft:
            logger.warning("Soft time limit (%ss) exceeded for %s[%s]", timeout, self.name, self.id)
            return
        logger.error("Hard time limit (%ss) exceeded for %s[%s]", timeout, self.name, self.id)
        task_ready(self)
        if self._external:
            self._answer(Settlement.REQUEUE)
            return
        end_process(self.worker_pid)
        self.hand_over(record_timeout, timeout)

    def _answer(self, settlement: Settlement) -> None:
        if self._settled:
            return
        self._settled = True
        with settling(self.message.channel):
            if failpoints.ACTIVE:
                failpoints.reach(
                    "worker.parent_before_settle", getattr(self.message.channel.connection, "sock", None)
                )
            if settlement is Settlement.ACK:
                self.acknowledge()
            else:
                self.reject(requeue=settlement is Settlement.REQUEUE)
        if failpoints.ACTIVE:
            failpoints.reach("worker.parent_after_settle")


def request_class(task: Any, pool: Any, trace: Any) -> type[ReliableRequest]:
    """The request class of one task on one pool; Celery's own factory would settle by itself."""

    class TaskRequest(ReliableRequest):
        def execute_using_pool(self, pool: Any, **_unused: Any) -> Any:
            if self.revoked():
                raise TaskRevokedError(self.task_id)
            time_limit, soft_time_limit = self.time_limits
            result = pool.apply_async(
                trace,
                args=self.pool_arguments(),
                accept_callback=self.on_accepted,
                timeout_callback=self.on_timeout,
                callback=self.settle,
                error_callback=self.lost,
                soft_timeout=soft_time_limit or task.soft_time_limit,
                timeout=time_limit or task.time_limit,
                correlation_id=self.task_id,
            )
            self._apply_result = (lambda: result) if result is not None else None
            return result

        def hand_over(self, function: Any, *first: Any) -> None:
            """Let a pool process settle it, by this function of the delivery."""
            pool.apply_async(
                function,
                args=(*first, *self.pool_arguments()),
                callback=self.settle,
                error_callback=lambda _lost: self._answer(Settlement.REQUEUE),
            )

        def on_success(self, answer: Any, **_unused: Any) -> None:
            self.settle(answer)

        def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
            self.lost(exc_info)

    return TaskRequest
