"""A message as it travels: where to, the bytes, the properties; and the headers that are ours."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

REPLAY = "rt-replay"
"""How many replays led to this message; absent means none."""

ENQUEUED_AT = "rt-enqueued-at"
"""When the sender let go of it, ISO 8601 in UTC."""

CORRELATION_ID = "rt-correlation-id"
"""Shared by all tasks of one business case; the root task's id unless the sender says otherwise."""

PUT_BACK = "rt-put-back"
"""How often the collector has sent it again, since it died without an attempt."""

_LARGEST = 2**31
"""What an INTEGER column holds."""

STRIPPED = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "CC", "BCC")
"""Broker history that must not travel with a new delivery: versions differ in what they believe of it."""


@dataclass(frozen=True)
class Message:
    """One message to a queue.

    Args:
        task_id: Celery's id, any string.
        queue: the declared queue's name, for people and results; routing goes by exchange and routing_key.
        properties: content_type, content_encoding, priority (of the broker), reply_to, correlation_id.
        due_at: not before this time.
        delay: not before so long after it was written, by the database's clock. Without both it is due at once.
        expires_at: worthless after this time; None is never.
    """

    task_id: str
    task_name: str
    exchange: str
    routing_key: str
    queue: str
    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None
    due_at: datetime | None = None
    delay: timedelta | None = None
    expires_at: datetime | None = None

    @property
    def replay(self) -> int:
        return replay_number(self.headers)

    def with_headers(self, **headers: Any) -> "Message":
        """A copy with these headers set."""
        return replace(self, headers={**self.headers, **headers})


def replay_number(headers: dict[str, Any]) -> int:
    """How many replays led to a message with these headers."""
    value = headers.get(REPLAY, 0)
    return value if isinstance(value, int) and 0 <= value < _LARGEST else 0


def put_backs(headers: dict[str, Any]) -> int:
    """How often the collector has sent a message with these headers again."""
    value = headers.get(PUT_BACK, 0)
    return value if isinstance(value, int) and 0 <= value < _LARGEST else 0


def without_history(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers without what the broker added on the way."""
    return {name: value for name, value in headers.items() if not name.startswith(STRIPPED)}
