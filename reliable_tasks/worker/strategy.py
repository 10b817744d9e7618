"""What the worker's parent does with a message of one task: make a request, hand it to the pool."""

from typing import Any

from celery import signals
from celery.exceptions import InvalidTaskError
from celery.worker.state import task_reserved

from reliable_tasks.worker.request import request_class
from reliable_tasks.worker.together import received
from reliable_tasks.worker.trace import trace
from reliable_tasks.worker.usual import can_be_usual, is_usual


def _queue_of(message: Any, consumer: Any) -> str | None:
    tag = message.delivery_info.get("consumer_tag")
    # kombu tells nobody else which queue a consumer's tag stands for
    return next((name for name, one in consumer.task_consumer._active_tags.items() if one == tag), None)


def _taker(task: Any, consumer: Any) -> Any:
    """What takes a usual delivery of this task to go together with others; it says whether it did."""
    together = consumer.together if can_be_usual(task) else None

    def take(message: Any, channel: Any) -> bool:
        """Whether this delivery goes together with others; then it is on its way."""
        if (
            together is None
            or (consumer.task_buckets[task.name] and not consumer.disable_rate_limits)
            or signals.task_received.receivers
            or (consumer.event_dispatcher and consumer.event_dispatcher.enabled)
            or not is_usual(message.headers, message.delivery_info)
            or message.headers["id"] in consumer.controller.state.revoked
        ):
            return False
        together.add(received(message, channel, _queue_of(message, consumer), consumer.hostname))
        return True

    if together is not None:
        consumer.taking[task.name] = take
    return take


def reliable(task: Any, app: Any, consumer: Any) -> Any:
    """The strategy of all our tasks. The body is not decoded here: the pool process verifies it first."""
    make_request = request_class(task, consumer.pool, trace)
    revoked, buckets = consumer.controller.state.revoked, consumer.task_buckets
    take = _taker(task, consumer)

    def receive(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **_unused: Any) -> None:
        if take(message, message.channel):
            return
        try:
            request = make_request(
                message,
                on_ack=ack,
                on_reject=reject,
                app=app,
                hostname=consumer.hostname,
                eventer=consumer.event_dispatcher,
                task=task,
                connection_errors=consumer.connection_errors,
                headers=message.headers,
                utc=True,
            )
            request.physical_queue = _queue_of(message, consumer)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            # any other exception ends the worker, and the next one, and so on
            raise InvalidTaskError(f"a header is not what Celery sends: {error}") from error
        if (request.expires or request.id in revoked) and request.revoked():
            return
        signals.task_received.send(sender=consumer, request=request)
        if task.send_events and consumer.event_dispatcher and consumer.event_dispatcher.enabled:
            consumer.event_dispatcher.send("task-received", uuid=request.id, name=request.name)
        bucket = None if consumer.disable_rate_limits else buckets[task.name]
        if bucket:
            consumer._limit_task(request, bucket, 1)
            return
        task_reserved(request)
        for callback in callbacks or ():
            callback(request)
        consumer.on_task_request(request)

    return receive
