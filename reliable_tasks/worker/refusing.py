"""Messages that the broker must not be asked to dead-letter: sent to the dead-letter queue as new ones, then acked."""

from typing import Any

from celery.utils.log import get_logger
from tenacity import Retrying, retry_if_exception_type, wait_random_exponential

from reliable_tasks.errors import BrokerUnreachable, PublishError
from reliable_tasks.model.envelope import Message, without_history
from reliable_tasks.model.headers import UNREADABLE
from reliable_tasks.model.storable import storable, storable_json
from reliable_tasks.worker.running import running_app

logger = get_logger("reliable_tasks.worker")
_PROPERTIES = ("content_type", "content_encoding", "correlation_id", "reply_to")


def refuse_by_hand(consumer: Any, message: Any) -> None:
    """Let a pool process send a copy that the broker can carry, and settle the message when that is confirmed."""
    info = message.delivery_info
    consumer.pool.apply_async(
        _send_copy,
        args=(
            message.body.encode() if isinstance(message.body, str) else bytes(message.body),
            # as plain JSON: what is nested too deep could not be pickled on its way to the pool
            storable_json({**message.headers, UNREADABLE: ["x-death"]}),
            {name: storable(value) for name in _PROPERTIES if (value := message.properties.get(name))},
            str(info.get("exchange") or ""),
            str(info.get("routing_key") or ""),
        ),
        callback=lambda _sent: consumer.call_soon_ack(
            message.ack_log_error, logger, consumer.connection_errors
        ),
        error_callback=lambda _lost: consumer.call_soon_ack(
            message.reject_log_error, logger, consumer.connection_errors, requeue=True
        ),
    )


def _send_copy(
    body: bytes, headers: dict[str, Any], properties: dict[str, str], exchange: str, routing_key: str
) -> tuple[int, None, float]:
    app = running_app()
    queue, _level = app.queue_and_level(routing_key)
    target = app.runtime.topology.work_queue(queue).dead_letter
    # what the broker would have written
    death = {
        "queue": routing_key,
        "reason": "rejected",
        "count": 1,
        "exchange": exchange,
        "routing-keys": [routing_key],
    }
    copy = Message(
        task_id=str(headers.get("id"))[:100],
        task_name=str(headers.get("task"))[:100],
        exchange=target.exchange,
        routing_key=target.queue,
        queue=target.queue,
        body=body,
        headers={**without_history(headers), "x-death": [death]},
        properties=properties,
    )
    for attempt in Retrying(
        retry=retry_if_exception_type((PublishError, BrokerUnreachable)),
        wait=wait_random_exponential(0.2, 10),
        reraise=True,
    ):
        with attempt:
            app.runtime.publisher.publish(copy)
    return 0, None, 0.0
