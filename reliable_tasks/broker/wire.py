"""A message as py-amqp sends it, checked before a delivery tag is given to it."""

import struct
import time
from datetime import UTC, datetime
from typing import Any

import amqp
from amqp.serialization import dumps

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route

PERSISTENT = 2


class NotEncodable(Exception):
    """A property, header or routing key is not what AMQP can hold."""


def as_amqp(message: Message, route: Route) -> Any:
    """The message with all its properties.

    Raises:
        NotEncodable: now, and not when half of a window is written.
    """
    expiration = _expiration(message)
    content = amqp.Message(
        message.body,
        application_headers=message.headers,
        delivery_mode=PERSISTENT,
        message_id=message.task_id,
        timestamp=int(time.time()),
        **({"priority": route.broker_priority} if route.broker_priority is not None else {}),
        **({"expiration": expiration} if expiration is not None else {}),
        **message.properties,
    )
    try:
        content._serialize_properties()
        dumps("ss", (route.exchange, route.routing_key))
    except (amqp.exceptions.FrameSyntaxError, struct.error, TypeError, ValueError, AttributeError) as error:
        raise NotEncodable(f"AMQP cannot hold it: {error}") from error
    return content


def _expiration(message: Message) -> str | None:
    """Milliseconds the broker should keep it, counted from now and not from when it was written."""
    if message.expires_at is None:
        return None
    left = (message.expires_at - datetime.now(UTC)).total_seconds()
    return str(max(0, int(left * 1000)))
