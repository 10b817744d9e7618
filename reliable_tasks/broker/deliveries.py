"""Usual deliveries read straight from the socket's bytes: method, content header and body at once.

A library reads frame by frame, in Python, whatever may come; nearly all that comes to a worker is a small message with
headers of a few kinds. What is anything else is left to the library, byte by byte as it came.
Frames: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 2.3 and 4.2.
"""

import struct
from functools import cache
from typing import Any, NamedTuple

_FRAME = struct.Struct(">BHI")
_METHOD, _HEADER, _BODY = 1, 2, 3
_DELIVER = b"\x00\x3c\x00\x3c"
_END = 0xCE
_SHORTEST_HEADER = 14
_TEXT, _NUMBER = 0x53, 0x49  # S and I
_FLAGS = struct.Struct(">H").unpack_from
_LONG = struct.Struct(">I").unpack_from
_WHOLE = struct.Struct(">i").unpack_from
_LONGER = struct.Struct(">q").unpack_from
_UNSIGNED = struct.Struct(">Q").unpack_from

_PROPERTIES = tuple(
    (1 << 15 - place, name, kind)
    for place, (name, kind) in enumerate(
        (
            ("content_type", "s"),
            ("content_encoding", "s"),
            ("application_headers", "t"),
            ("delivery_mode", "o"),
            ("priority", "o"),
            ("correlation_id", "s"),
            ("reply_to", "s"),
            ("expiration", "s"),
            ("message_id", "s"),
            ("timestamp", "L"),
        )
    )
)
"""Bit in the flags, name, and s for a short string, t for the table, o for a byte, L for eight bytes."""

_KNOWN = sum(flag for flag, _name, _kind in _PROPERTIES)


_MOST_KEPT = 1000
_often_read: dict[bytes, str] = {}
"""Names of headers, queues and consumers, as they were read before."""


class Delivered(NamedTuple):
    """One message, with the names that the library's message has.

    Args:
        number: of its channel.
        end: where in the bytes the next frame begins.
    """

    number: int
    delivery_tag: int
    delivery_info: dict[str, Any]
    properties: dict[str, Any]
    headers: dict[str, Any]
    body: bytes
    end: int

    @property
    def content_type(self) -> str | None:
        return self.properties.get("content_type")

    @property
    def content_encoding(self) -> str | None:
        return self.properties.get("content_encoding")


class Unusual(ValueError):
    """What begins here is for the library to read."""


def read_delivery(data: bytes, at: int) -> Delivered | None:
    """The delivery whose frames begin at `at`; None while they are not all here.

    Raises:
        Unusual: when it is anything but a delivery of one body frame with properties and headers of common kinds.
    """
    method = _frame(data, at)
    if method is None:
        return None
    kind, number, begin, end = method
    if kind != _METHOD or data[begin : begin + 4] != _DELIVER:
        raise Unusual
    header = _frame(data, end + 1)
    if header is None:
        return None
    (body_size,) = _UNSIGNED(data, header[2] + 4)
    if not body_size:
        raise Unusual
    body = _frame(data, header[3] + 1, body_size)
    if body is None:
        return None
    if header[:2] != (_HEADER, number) or body[:2] != (_BODY, number):
        raise Unusual
    if data[header[2] : header[2] + 2] != _DELIVER[:2]:
        raise Unusual
    try:
        info = _arguments(data, begin + 4, end)
        properties = _properties(data, header[2] + 12, header[3])
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Unusual from error
    headers = properties.get("application_headers") or {}
    return Delivered(
        number, info["delivery_tag"], info, properties, headers, data[body[2] : body[3]], body[3] + 1
    )


def _frame(data: bytes, at: int, wanted: int | None = None) -> tuple[int, int, int, int] | None:
    """Kind, channel, and where its payload begins and ends; None when it is not all here."""
    if len(data) < at + _FRAME.size:
        return None
    kind, number, size = _FRAME.unpack_from(data, at)
    begin = at + _FRAME.size
    if wanted is not None and size != wanted:
        raise Unusual  # one of several frames
    if len(data) <= begin + size:
        return None
    if data[begin + size] != _END or (kind == _HEADER and size < _SHORTEST_HEADER):
        raise Unusual
    return kind, number, begin, begin + size


def _arguments(data: bytes, at: int, end: int) -> dict[str, Any]:
    consumer_tag, at = _often(data, at)
    (tag,) = _UNSIGNED(data, at)
    redelivered = data[at + 8]
    exchange, at = _often(data, at + 9)
    routing_key, at = _often(data, at)
    if at != end:
        raise Unusual
    return {
        "consumer_tag": consumer_tag,
        "delivery_tag": tag,
        "redelivered": bool(redelivered),
        "exchange": exchange,
        "routing_key": routing_key,
    }


@cache
def _there(flags: int) -> tuple[tuple[str, str], ...]:
    """Names and kinds of the properties that are there."""
    if flags & ~_KNOWN:
        raise Unusual
    return tuple((name, kind) for flag, name, kind in _PROPERTIES if flags & flag)


def _properties(data: bytes, at: int, end: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    there = _there(_FLAGS(data, at)[0])
    at += 2
    for name, kind in there:
        if kind == "s":
            begin = at + 1
            at = begin + data[at]
            found[name] = data[begin:at].decode()
        elif kind == "t":
            after = at + 4 + _LONG(data, at)[0]
            found[name], at = _table(data, at + 4, after), after
        elif kind == "o":
            found[name], at = data[at], at + 1
        else:
            found[name], at = _UNSIGNED(data, at)[0], at + 8
    if at != end:
        raise Unusual
    return found


def _table(data: bytes, at: int, end: int, *, inner: bool = False) -> dict[str, Any]:
    # texts and numbers are read here and not by calls: they are most of what there is to read
    found: dict[str, Any] = {}
    while at < end:
        begin = at + 1
        at = begin + data[at]
        written = data[begin:at]
        name = _often_read.get(written) or _kept(written)
        kind = data[at]
        if kind == _TEXT:
            begin = at + 5
            at = begin + _LONG(data, at + 1)[0]
            found[name] = data[begin:at].decode()
        elif kind == _NUMBER:
            found[name], at = _WHOLE(data, at + 1)[0], at + 5
        else:
            found[name], at = _value(data, at, inner=inner)
    if at != end:
        raise Unusual
    return found


def _list(data: bytes, at: int, end: int) -> list[Any]:
    items: list[Any] = []
    while at < end:
        item, at = _value(data, at, inner=True)
        items.append(item)
    if at != end:
        raise Unusual
    return items


def _value(data: bytes, at: int, *, inner: bool) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    if kind == _TEXT:
        end = at + 4 + _LONG(data, at)[0]
        return data[at + 4 : end].decode(), end
    if kind == _NUMBER:
        return _WHOLE(data, at)[0], at + 4
    if kind in (0x6C, 0x4C):  # l, and L, which py-amqp writes for it
        return _LONGER(data, at)[0], at + 8
    if kind == 0x74:  # t
        return bool(data[at]), at + 1
    if kind == 0x56:  # V
        return None, at
    if inner or kind not in (0x41, 0x46):
        raise Unusual
    begin = at + 4
    end = begin + _LONG(data, at)[0]
    return (_list(data, begin, end) if kind == 0x41 else _table(data, begin, end, inner=True)), end


def _often(data: bytes, at: int) -> tuple[str, int]:
    """A short text that many deliveries have in common."""
    end = at + 1 + data[at]
    written = data[at + 1 : end]
    return _often_read.get(written) or _kept(written), end


def _kept(written: bytes) -> str:
    text = written.decode()
    if len(_often_read) < _MOST_KEPT:  # anybody can send names
        _often_read[written] = text
    return text
