"""AMQP 0-9-1 as it passes a proxy: a stream of bytes cut into frames, each with the name of its method."""

from dataclasses import dataclass, field
from typing import NamedTuple

PROTOCOL_HEADER = b"AMQP"
"""The first eight bytes of a client begin so; they are no frame."""

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_NAMES = {
    (10, 50): "connection.close",
    (10, 60): "connection.blocked",
    (20, 10): "channel.open",
    (20, 40): "channel.close",
    (60, 20): "basic.consume",
    (60, 40): "basic.publish",
    (60, 50): "basic.return",
    (60, 60): "basic.deliver",
    (60, 70): "basic.get",
    (60, 71): "basic.get-ok",
    (60, 80): "basic.ack",
    (60, 90): "basic.reject",
    (60, 120): "basic.nack",
    (85, 10): "confirm.select",
}
_WITH_CONTENT = {"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"}


class Unit(NamedTuple):
    """What passes at once: its bytes, and what it is called."""

    name: str
    data: bytes


@dataclass
class _Content:
    """A message whose header and body follow its method."""

    name: str
    left: int | None = None


@dataclass
class AmqpFrames:
    """One direction of one connection.

    The last frame of a message is called `basic.publish.end` (`basic.deliver.end`, ...), so that a message can be
    cut off before, within and after itself. Other methods are called by class and method number, other frames by kind.
    """

    _buffer: bytes = b""
    _contents: dict[int, _Content] = field(default_factory=dict)

    def feed(self, data: bytes) -> list[Unit]:
        """The frames that these bytes complete."""
        self._buffer += data
        units = []
        while (size := self._size()) is not None and len(self._buffer) >= size:
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            units.append(Unit(self._name(frame), frame))
        return units

    def _size(self) -> int | None:
        """Length of the frame at the beginning, when its head is there."""
        if self._buffer[:4] == PROTOCOL_HEADER:
            return 8
        if len(self._buffer) < 7:
            return None
        return 7 + int.from_bytes(self._buffer[3:7], "big") + 1

    def _name(self, frame: bytes) -> str:
        if frame[:4] == PROTOCOL_HEADER:
            return "protocol"
        kind, channel, payload = frame[0], int.from_bytes(frame[1:3], "big"), frame[7:-1]
        if kind == _METHOD:
            number = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
            name = _NAMES.get(number, f"{number[0]}.{number[1]}")
            if name in _WITH_CONTENT:
                self._contents[channel] = _Content(name)
            return name
        if kind in (_HEADER, _BODY):
            return self._content_name(kind, channel, payload)
        return "heartbeat" if kind == _HEARTBEAT else "unknown"

    def _content_name(self, kind: int, channel: int, payload: bytes) -> str:
        content = self._contents[channel]
        if kind == _HEADER:
            content.left = int.from_bytes(payload[4:12], "big")
        else:
            content.left = (content.left or 0) - len(payload)
        if content.left > 0:
            return "header" if kind == _HEADER else "body"
        del self._contents[channel]
        return f"{content.name}.end"
