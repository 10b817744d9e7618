"""Messages in a dead-letter queue, as the broker would have put them there."""

from typing import Any

import pika


def die(
    channel: Any,
    body: bytes = b"[]",
    *,
    reason: str = "rejected",
    queue: str = "payments",
    properties: dict[str, Any] | None = None,
    **headers: Any,
) -> None:
    """Put a message into the dead-letter queue of the queue in which it died."""
    lane = queue.partition(".")[0]
    death = {"queue": queue, "reason": reason, "exchange": "commands", "routing-keys": [queue], "count": 1}
    kept = pika.BasicProperties(
        content_type="application/json", headers={**headers, "x-death": [death]}, **(properties or {})
    )
    channel.basic_publish("dead-letters", f"{lane}.dead", body, kept, mandatory=True)
