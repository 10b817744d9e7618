"""Content headers that a client library cannot read, made readable: one such must end neither worker nor collector.

A library that meets a table nested a thousand deep, or a moment after the year 9999, raises while it reads a frame.
The message is not settled then, comes again, and ends the next process that looks at it.
Types of fields: https://www.rabbitmq.com/amqp-0-9-1-errata.html, section 3.
"""

import struct
from typing import Any

from reliable_tasks.model.headers import UNREADABLE

_DEEPEST = 64
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, where Python's time ends."""

_SIZES = {
    b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"U": 2, b"I": 4, b"i": 4, b"l": 8, b"L": 8, b"f": 4, b"d": 8,
    b"D": 5, b"T": 8, b"V": 0,
}  # fmt: skip
_WITH_LENGTH = (b"S", b"x", b"F", b"A")
_PROPERTIES = "sstoossssLssss"
"""content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration, message_id,
timestamp, type, user_id, app_id, cluster_id: s is a short string, o a byte, L eight bytes, t the table."""


def readable(payload: bytes) -> bytes:
    """The payload of a content header without the headers that cannot be read; their names are a header instead.

    Raises:
        ValueError: when it is no content header at all.
    """
    try:
        return _rewritten(payload)
    except (struct.error, IndexError) as error:
        raise ValueError("this is no content header") from error


def _rewritten(payload: bytes) -> bytes:
    head, (flags,), offset = payload[:12], struct.unpack_from(">H", payload, 12), 14
    kept = [head, struct.pack(">H", flags)]
    for number, kind in enumerate(_PROPERTIES):
        if not flags & 1 << 15 - number:
            continue
        if kind == "t":
            size = 4 + struct.unpack_from(">I", payload, offset)[0]
            kept.append(_table(payload[offset + 4 : offset + size]))
        elif kind == "s":
            size = 1 + payload[offset]
            kept.append(_short(payload[offset + 1 : offset + size].decode("utf-8", "replace")))
        else:
            size = 1 if kind == "o" else 8
            kept.append(payload[offset : offset + size])
        offset += size
    return b"".join(kept)


def _table(fields: bytes) -> bytes:
    kept: list[bytes] = []
    lost: list[str] = []
    offset = 0
    while offset < len(fields):
        after_name = offset + 1 + fields[offset]
        name = fields[offset + 1 : after_name]
        end = _end(fields, after_name)
        if end is None:
            lost.append("...")  # of an unknown kind, so nobody knows where it ends
            break
        if _is_readable(fields, after_name):
            kept.append(fields[offset:end])
        else:
            lost.append(name.decode("utf-8", "replace"))
        offset = end
    if lost:
        names = b"".join(b"S" + struct.pack(">I", len(one.encode())) + one.encode() for one in lost)
        kept.append(_short(UNREADABLE) + b"A" + struct.pack(">I", len(names)) + names)
    joined = b"".join(kept)
    return struct.pack(">I", len(joined)) + joined


def _end(fields: bytes, offset: int) -> int | None:
    """Where the value that begins here ends; None when its kind is unknown."""
    kind = fields[offset : offset + 1]
    if kind in _WITH_LENGTH:
        return int(offset + 5 + struct.unpack_from(">I", fields, offset + 1)[0])
    return offset + 1 + _SIZES[kind] if kind in _SIZES else None


def _is_readable(fields: bytes, offset: int) -> bool:
    """Whether a value is one that Python has, and not nested too deep."""
    waiting: list[tuple[int, int]] = [(offset, 0)]
    while waiting:
        at, depth = waiting.pop()
        end = _end(fields, at)
        if end is None or end > len(fields) or depth > _DEEPEST:
            return False
        kind = fields[at : at + 1]
        if kind == b"T" and struct.unpack_from(">Q", fields, at + 1)[0] > _LAST_SECOND:
            return False
        inner = at + 5
        while kind in (b"F", b"A") and inner < end:
            if kind == b"F":
                inner += 1 + fields[inner]
            waiting.append((inner, depth + 1))
            after = _end(fields, inner)
            if after is None:
                return False
            inner = after
    return True


def _short(text: str) -> bytes:
    encoded = text.encode()
    while len(encoded) > 255:  # a sign that stands for a byte may be longer than it
        text = text[:-1]
        encoded = text.encode()
    return bytes([len(encoded)]) + encoded


def guard_amqp(connection: Any) -> None:
    """Let a py-amqp connection read every content header."""
    on_method = connection.on_inbound_method
    handed_on = False

    def handing_on(*frame: Any) -> Any:
        nonlocal handed_on
        handed_on = True
        return on_method(*frame)

    inner = connection.frame_handler_cls(connection, handing_on)

    def on_frame(frame: Any) -> Any:
        nonlocal handed_on
        handed_on = False
        try:
            return inner(frame)
        except Exception:
            kind, channel, payload = frame
            if kind != 2 or handed_on:
                raise  # not the reading has failed, but what was done with the message
            return inner((kind, channel, readable(bytes(payload))))

    connection.on_inbound_frame = on_frame


def guard_pika(connection: Any) -> None:
    """Let a blocking pika connection read every content header."""
    impl = connection._impl  # the connection that the blocking one wraps, and the only place to read frames
    read = impl._read_frame

    def read_frame() -> Any:
        try:
            return read()
        except Exception:
            buffered = bytes(impl._frame_buffer)
            kind, channel, size = struct.unpack_from(">BHI", buffered)
            if kind != 2:
                raise
            payload = readable(buffered[7 : 7 + size])
            rest = impl._frame_buffer
            impl._frame_buffer = struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"
            try:
                _consumed, frame = read()
            finally:
                impl._frame_buffer = rest
            return 7 + size + 1, frame

    impl._read_frame = read_frame
