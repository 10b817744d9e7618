"""Messages for the fuzz: good ones, bent at random; the same seed bends them the same way."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests.integration.bad_input.bad_messages import BAD_MESSAGES

Message = tuple[bytes, dict[str, Any], dict[str, Any]]

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_GOOD: tuple[tuple[str, list[Any], dict[str, Any]], ...] = (
    ("pay", ["order-1"], {}),
    ("pay", ["order-1", {"__type__": "decimal", "__value__": "12.30"}], {}),
    ("types", [{"number": "7", "amount": "0.10", "due": "2026-02-28"}],
     {"uid": {"__type__": "uuid", "__value__": {"hex": "0" * 32}}, "kind": "batch", "rest": {"a": ["1.5"]}}),
    ("types", [{"number": "7", "amount": {"__type__": "decimal", "__value__": "1"},
                "due": {"__type__": "date", "__value__": "2026-02-28"}}, None,
               {"__type__": "date", "__value__": "2026-02-28"},
               {"__type__": "datetime", "__value__": "2026-02-28T00:00:00+00:00"}], {}),
    ("plain", [1, "two", [3.5], {"four": None}], {"five": True}),
)  # fmt: skip

_TOKENS = (
    b"NaN", b"-Infinity", b"1e400", b"1e400000", b"9" * 5000, b"[" * 200, b"]" * 200, b'{"a":' * 120, b'"\\ud800"',
    b'"\\u0000"', b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'{"a":1,"a":2}', b"null", b"true", b"{}",
    b'{"__type__":"decimal","__value__":"NaN"}', b'{"__type__":"uuid","__value__":{"int":-1}}',
    b'{"__type__":"datetime","__value__":"infinity"}', b'{"__type__":[],"__value__":0}',
    b'{"__type__":"decimal","__value__":"1e999999"}', b"\x1b[2J", "\u202e".encode(), b"-0.0", b"1E-400", b",", b'"',
)  # fmt: skip

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 5, 2**31, 2**63 - 1, 10**30, 1.5, float("inf"), float("nan"), "", "x", "\x00", "\ud800",
    "\x1b[2J", "\u202e", "x" * 300, "x" * 70_000, b"", b"\xff\xfe", [], ["a"], [None, None],
    [-1, float("nan")], {}, {"a": {"b": 1}},
    Decimal("1.5"), Decimal("NaN"), datetime(2026, 1, 1), datetime(9999, 12, 31, tzinfo=UTC), "infinity",  # noqa: DTZ001
    "20000-01-01", "2026-02-30T00:00:00", "2026-W01-1", "2026-01-01T00:00:00+23:59", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "no.such.task", "pay", [[[[[[]]]]]],
)  # fmt: skip

_HEADERS = (
    "id", "task", "root_id", "parent_id", "group", "group_index", "retries", "timelimit", "eta", "expires", "shadow",
    "stamped_headers", "stamps", "ignore_result", "replaced_task_nesting", "argsrepr", "kwargsrepr", "origin", "lang",
    "compression", "x-death", "x-delivery-count", "rt-replay", "rt-put-back", "rt-enqueued-at", "rt-correlation-id",
    "rt-signature", "rt-unreadable", "delivery_info", "args", "kwargs", "properties", "hostname", "callbacks", "chain",
    "chord", "reply_to", "utc", "foreign",
)  # fmt: skip
_PROPERTIES = ("content_type", "content_encoding", "correlation_id", "reply_to")
_SHORT_TEXTS = (
    "", "application/json", "application/x-python-serialize", "utf-8", "UTF-8", "utf-16", "binary", "klingon", "\x00",
    "\ufffd", "\ud800", "\x1b[2J", "\u202e", "x" * 255, None,
)  # fmt: skip
"""What AMQP's short strings can be, as py-amqp reads them."""


def good(chance: random.Random) -> Message:
    """A message as an application sends it."""
    task, args, kwargs = chance.choice(_GOOD)
    body = json.dumps([args, kwargs, EMBED]).encode()
    headers = {
        "id": "an-id",
        "task": task,
        "root_id": "an-id",
        "retries": 0,
        "timelimit": [None, None],
        "eta": None,
    }
    return body, headers, {"content_type": "application/json", "content_encoding": "utf-8"}


def bent(chance: random.Random) -> Message:
    """A good message, or a listed bad body, with a few things wrong."""
    body, headers, properties = good(chance)
    if chance.random() < 0.05:
        body = chance.choice(_LISTED)
    for _ in range(chance.randrange(5)):
        kind = chance.random()
        if kind < 0.6:
            body = chance.choice(_BENDS)(chance, body)
        elif kind < 0.9:
            headers[chance.choice(_HEADERS)] = _value(chance)
        else:
            properties[chance.choice(_PROPERTIES)] = chance.choice(_SHORT_TEXTS)
    return body, headers, properties


def _value(chance: random.Random) -> Any:
    value = chance.choice(_VALUES)
    if chance.random() < 0.02:
        for _ in range(chance.choice((10, 40, 400))):
            value = {"t": value} if chance.random() < 0.5 else [value]
    return value


def _insert(chance: random.Random, body: bytes) -> bytes:
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(_TOKENS) + body[at:]


def _replace_value(chance: random.Random, body: bytes) -> bytes:
    """A JSON value in the place of another: most of what comes out is still JSON."""
    places = [n for n, byte in enumerate(body) if byte in b":,["]
    if not places:
        return body
    start = chance.choice(places) + 1
    end = next((n for n in range(start, len(body)) if body[n] in b",]}"), len(body))
    return body[:start] + chance.choice(_TOKENS) + body[end:]


def _cut(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _flip(chance: random.Random, body: bytes) -> bytes:
    if not body:
        return body
    at = chance.randrange(len(body))
    return body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]


def _double(chance: random.Random, body: bytes) -> bytes:
    start = chance.randrange(len(body) + 1)
    part = body[start : start + chance.randrange(60)]
    return body[:start] + part * chance.choice((2, 3, 50)) + body[start:]


def _random(chance: random.Random, _body: bytes) -> bytes:
    return chance.randbytes(chance.randrange(80))


_BENDS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _insert, _replace_value, _replace_value, _cut, _flip, _flip, _double, _random,
)  # fmt: skip
_LISTED = tuple(message.body for message in BAD_MESSAGES if len(message.body) < 20_000)
