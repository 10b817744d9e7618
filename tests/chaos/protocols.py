"""What a proxy knows of the protocol that passes it: how bytes are cut into units."""

from collections.abc import Callable
from typing import Protocol

from tests.chaos.amqp_frames import AmqpFrames, Unit
from tests.chaos.faults import Direction
from tests.chaos.postgres_messages import PostgresMessages, Sender


class Parser(Protocol):
    """One direction of a connection, cut into units."""

    def feed(self, data: bytes) -> list[Unit]:
        """The units that these bytes complete."""


class Bytes:
    """A direction of which nothing need be known."""

    def feed(self, data: bytes) -> list[Unit]:
        """What has come, as it has come."""
        return [Unit("bytes", data)]


PROTOCOLS: dict[str, Callable[[Direction], Parser]] = {
    "bytes": lambda _direction: Bytes(),
    "amqp": lambda _direction: AmqpFrames(),
    "postgres": lambda direction: PostgresMessages(
        Sender.CLIENT if direction is Direction.TO_SERVER else Sender.SERVER
    ),
}
