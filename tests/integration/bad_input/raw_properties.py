"""Properties as bytes: what no client library would write, and what the broker takes all the same."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pika.data import encode_value
from pika.spec import BasicProperties


@dataclass(frozen=True)
class Raw:
    """A header's value that is on the wire already: its type's letter and its bytes."""

    wire: bytes


def nested_lists(depth: int) -> Raw:
    """Lists in lists."""
    lengths = [5 * below for below in range(depth)]
    return Raw(b"".join(struct.pack(">cI", b"A", length) for length in reversed(lengths)))


def nested_tables(depth: int) -> Raw:
    """Tables in tables."""
    lengths = [7 * below for below in range(depth)]
    return Raw(
        b"".join(
            struct.pack(">cI", b"F", length) + (b"\x01t" if length else b"") for length in reversed(lengths)
        )
    )


def timestamp(seconds: int) -> Raw:
    """A moment that may be later than Python's last one."""
    return Raw(struct.pack(">cQ", b"T", seconds))


def text(value: bytes) -> Raw:
    """Text that need not be UTF-8."""
    return Raw(struct.pack(">cI", b"S", len(value)) + value)


class RawProperties(BasicProperties):  # type: ignore[misc]
    """Properties whose headers are pairs: names may repeat, values may be Raw."""

    def __init__(self, headers: Iterable[tuple[str, Any]], **properties: Any) -> None:
        super().__init__(headers={"placeholder": None}, **properties)
        self._pairs = list(headers)

    def encode(self) -> list[bytes]:
        """As pika's, with our headers in the place of the one that it knows."""
        placeholder = [struct.pack(">I", 13), b"\x0b", b"placeholder", b"V"]
        pieces: list[bytes] = super().encode()
        at = next(n for n in range(len(pieces)) if pieces[n : n + 4] == placeholder)
        pieces[at : at + 4] = [_table(self._pairs)]
        return pieces


def _table(pairs: Iterable[tuple[str, Any]]) -> bytes:
    pieces: list[bytes] = []
    for name, value in pairs:
        encoded = name.encode()
        pieces.append(struct.pack("B", len(encoded)) + encoded)
        if isinstance(value, Raw):
            pieces.append(value.wire)
        else:
            encode_value(pieces, value)
    joined = b"".join(pieces)
    return struct.pack(">I", len(joined)) + joined
