"""Messages as they were sent: nothing of one is looked into before anybody can refuse it."""

from collections.abc import Iterable
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
    """A channel that gives out such messages, their bodies as bytes: a dead letter is kept as it came.

    It knows what it has delivered and nobody has settled, so that many deliveries can be acked by one word.
    """

    def __init__(
        self, connection: Any, channel_id: Any = None, auto_decode: bool = False, **options: Any
    ) -> None:
        self._unsettled: dict[int, None] = {}
        super().__init__(connection, channel_id, auto_decode, **options)

    Message = AsSent  # type: ignore[assignment]  # kombu's own is inferred too narrowly

    def message_to_python(self, raw_message: Any) -> Any:
        """As kombu's."""
        if raw_message.delivery_info.get("consumer_tag") not in (self.no_ack_consumers or ()):
            self.delivered(raw_message.delivery_tag)
        return super().message_to_python(raw_message)  # type: ignore[no-untyped-call]  # kombu has no types

    def delivered(self, tag: int) -> None:
        """Note a delivery that is to be settled."""
        self._unsettled[tag] = None

    def basic_ack(self, delivery_tag: int, multiple: bool = False, **options: Any) -> None:
        self._unsettled.pop(delivery_tag, None)
        super().basic_ack(delivery_tag, multiple, **options)

    def basic_reject(self, delivery_tag: int, requeue: bool, **options: Any) -> None:
        self._unsettled.pop(delivery_tag, None)
        super().basic_reject(delivery_tag, requeue, **options)

    def ack_all(self, tags: Iterable[int]) -> None:
        """Ack these deliveries: with one word all before the first that is not settled, the others one by one."""
        ordered = sorted(tags)
        for tag in ordered:
            self._unsettled.pop(tag, None)
        first = next(iter(self._unsettled), None)  # tags grow, and a dict keeps its order
        before = ordered if first is None else [tag for tag in ordered if tag < first]
        if before:
            self.basic_ack(before[-1], multiple=len(before) > 1)
        for tag in ordered[len(before) :]:
            self.basic_ack(tag)


def receive_as_sent(connection: Any) -> None:
    """Make every channel of a kombu connection, which must not have one yet, such a channel."""
    connection.connection.Channel = Channel
    guard_amqp(connection.connection)
