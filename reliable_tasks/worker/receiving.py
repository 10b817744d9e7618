"""Messages as they were sent: nothing of one is looked into before anybody can refuse it."""

from typing import Any

from kombu.transport import pyamqp

from reliable_tasks.broker.content_headers import guard_amqp


class AsSent(pyamqp.Message):
    """A message whose body is left alone: a gzip bomb would fill the parent's memory, and end all its tasks."""

    def __init__(self, message: Any, channel: Any = None, **options: Any) -> None:
        headers = message.properties.get("application_headers") or {}
        compression = headers.pop("compression", None)
        super().__init__(message, channel, **options)  # type: ignore[no-untyped-call]  # kombu has no types
        if compression is not None:
            self.headers["compression"] = compression


class Channel(pyamqp.Channel):
    """A channel that gives out such messages, their bodies as bytes: a dead letter is kept as it came."""

    def __init__(
        self, connection: Any, channel_id: Any = None, auto_decode: bool = False, **options: Any
    ) -> None:
        super().__init__(connection, channel_id, auto_decode, **options)

    Message = AsSent  # type: ignore[assignment]  # kombu's own is inferred too narrowly


def receive_as_sent(connection: Any) -> None:
    """Make every channel of a kombu connection, which must not have one yet, such a channel."""
    connection.connection.Channel = Channel
    guard_amqp(connection.connection)
