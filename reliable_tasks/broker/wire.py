"""A message as the bytes that publish it: its three frames in one piece, so that one send can take many messages.

py-amqp sends each message by itself, and takes longer to write down its headers than the broker to store it. What is
written here is the same, byte for byte; and what a message has in common with the one before is not written down anew.
"""

import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import amqp
from amqp.serialization import dumps

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route

PERSISTENT = 2
MANDATORY = 1

_BASIC_PUBLISH = struct.pack(">HHH", 60, 40, 0)
_CONTENT = struct.Struct(">HHQ")
_FRAME = struct.Struct(">BHI")
_OCTET = struct.Struct("B")
_TEXT = struct.Struct(">cI")
_END = b"\xce"
_AROUND = 8
"""Bytes of a frame besides its payload."""

_REMEMBERED = 512
"""Names and routes that are kept: more than programs have, unless somebody makes them up."""

_SHORT_FIELD = 512
"""Bytes of the longest header that is kept."""

_PLAIN = frozenset({str, int, bool, type(None)})
"""Types of which equal values are written alike: 0.0 and -0.0 are not."""


class NotEncodable(Exception):
    """A property, header or routing key is not what AMQP can hold."""


class Wire:
    """Writes messages for one channel.

    Args:
        channel_id: the channel's number.
        frame_max: the longest frame that the broker takes, in bytes.
    """

    def __init__(self, channel_id: int, frame_max: int) -> None:
        self._channel_id = channel_id
        self._longest = frame_max - _AROUND
        self._written: dict[str, tuple[Any, bytes]] = {}

    def published(self, message: Message, route: Route) -> bytes:
        """The frames of basic.publish: the method, the properties and the body.

        Raises:
            NotEncodable: when AMQP cannot hold it; one such frame would end the connection for all.
        """
        try:
            method = _method(self._channel_id, route.exchange, route.routing_key)
            properties = _properties(message, route, self._headers(message.headers))
        except (
            amqp.exceptions.FrameSyntaxError,
            struct.error,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            raise NotEncodable(f"AMQP cannot hold it: {error}") from error
        body = message.body
        content = _CONTENT.pack(60, 0, len(body)) + properties
        if len(content) > self._longest:
            raise NotEncodable(f"its headers have {len(content)} bytes, and a frame {self._longest}")
        begin = method + _frame(2, self._channel_id, content)
        if len(body) <= self._longest:
            return begin + _frame(3, self._channel_id, body) if body else begin
        cuts = range(0, len(body), self._longest)
        return begin + b"".join(_frame(3, self._channel_id, body[cut : cut + self._longest]) for cut in cuts)

    def _headers(self, headers: dict[str, Any]) -> bytes:
        """The table of headers; of those that are as in the last message, the bytes are there already."""
        written, parts = self._written, []
        for name, value in headers.items():
            last = written.get(name)
            # of one type: True is 1, and is written in another way
            if last is not None:
                known, field = last
                if known is value or (type(known) is type(value) and known == value):
                    parts.append(field)
                    continue
            field = _name(name) + _value(value)
            parts.append(field)
            if len(field) <= _SHORT_FIELD and len(written) < _REMEMBERED and _equal_is_same(value):
                # the list may be changed by whose it is
                written[name] = (value if type(value) in _PLAIN else value.copy(), field)
        joined = b"".join(parts)
        return len(joined).to_bytes(4, "big") + joined


@lru_cache(maxsize=_REMEMBERED)
def _method(channel_id: int, exchange: str, routing_key: str) -> bytes:
    names = _short(exchange) + _short(routing_key)
    return _frame(1, channel_id, b"%s%s%c" % (_BASIC_PUBLISH, names, MANDATORY))


def _frame(kind: int, channel_id: int, payload: bytes) -> bytes:
    return b"%s%s%s" % (_FRAME.pack(kind, channel_id, len(payload)), payload, _END)


def _properties(message: Message, route: Route, headers: bytes) -> bytes:
    """Flags and values, as py-amqp's `_serialize_properties` writes them."""
    given = {
        "priority": route.broker_priority,
        **message.properties,
        "headers": headers,
        "delivery_mode": PERSISTENT,
        "expiration": None if message.expires_at is None else _left(message.expires_at),
        "message_id": message.task_id,
        "timestamp": int(time.time()),
    }
    flags, parts = 0, [b""]
    for name, (flag, written) in _PROPERTIES.items():
        value = given.get(name)
        if value is not None:
            flags |= flag
            parts.append(written(value))
    parts[0] = flags.to_bytes(2, "big")
    return b"".join(parts)


def table(fields: dict[str, Any]) -> bytes:
    """A table with its length."""
    joined = b"".join([_name(name) + _value(value) for name, value in fields.items()])
    return len(joined).to_bytes(4, "big") + joined


def _value(value: Any) -> bytes:
    """A value behind the sign of its kind; of kinds that are rare, py-amqp writes it."""
    kind = type(value)
    if kind is str:
        encoded: bytes = value.encode("utf-8", "surrogatepass")
        return _TEXT.pack(b"S", len(encoded)) + encoded
    if kind is bool:
        return b"t\x01" if value else b"t\x00"
    if kind is int and -(2**31) < value < 2**31:
        return b"I%s" % value.to_bytes(4, "big", signed=True)
    if value is None:
        return b"V"
    if kind is dict:
        return b"F" + table(value)
    if kind is list:
        joined = b"".join(map(_value, value))
        return b"A%s%s" % (len(joined).to_bytes(4, "big"), joined)
    # a table of one field whose name is empty, without its length and that name
    return bytes(dumps("F", ({"": value},))[5:])


def _equal_is_same(value: Any) -> bool:
    """Whether all values of its type that equal it are written alike. Most tasks have two lists of nothing."""
    kind = type(value)
    return (
        kind in _PLAIN or (kind is list and value.count(None) == len(value)) or (kind is dict and not value)
    )


def _short(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return _OCTET.pack(len(encoded)) + encoded


_name = lru_cache(maxsize=_REMEMBERED)(_short)


def _left(expires_at: datetime) -> str:
    """Milliseconds the broker should keep it, counted from now and not from when it was written."""
    left = (expires_at - datetime.now(UTC)).total_seconds()
    return str(max(0, int(left * 1000)))


_PROPERTIES: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "content_type": (1 << 15, _name),
    "content_encoding": (1 << 14, _name),
    "headers": (1 << 13, bytes),
    "delivery_mode": (1 << 12, _OCTET.pack),
    "priority": (1 << 11, _OCTET.pack),
    "correlation_id": (1 << 10, _short),
    "reply_to": (1 << 9, _name),
    "expiration": (1 << 8, _short),
    "message_id": (1 << 7, _short),
    "timestamp": (1 << 6, struct.Struct(">Q").pack),
    "type": (1 << 5, _short),
    "user_id": (1 << 4, _short),
    "app_id": (1 << 3, _short),
    "cluster_id": (1 << 2, _short),
}
"""In the order in which they are written: the flag that says that there is one, and how it is written."""
