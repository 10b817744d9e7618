"""Bodies that are no list of args, kwargs and embed in JSON."""

import gzip
import json
import pickle
from typing import Any

from tests.integration.bad_input.bad_message import EMBED, BadMessage, dead, runs


def call(args: bytes, kwargs: bytes = b"{}", embed: bytes = EMBED) -> bytes:
    """A body of these parts."""
    return b"[" + b", ".join((args, kwargs, embed)) + b"]"


def holding(value: str | bytes) -> dict[str, Any]:
    """The keyed task's second argument is this JSON."""
    return {"body": call(b'["CASE", ' + (value.encode() if isinstance(value, str) else value) + b"]")}


def typed(kind: Any, value: Any) -> dict[str, Any]:
    """The second argument is an object of the kind that kombu's JSON rebuilds."""
    return holding(json.dumps({"__type__": kind, "__value__": value}))


def embedding(**embed: Any) -> dict[str, Any]:
    """What shall follow is this."""
    return {"body": call(b'["CASE"]', embed=json.dumps(embed).encode())}


_BYTES = (
    dead("body-empty", body=b""),
    dead("body-pickle", body=pickle.dumps([["CASE"], {}, {}])),
    dead("body-truncated", body=b'[["CASE"], {}, {'),
    dead("body-bom", body=b"\xef\xbb\xbf" + call(b'["CASE"]')),
    dead("body-utf16", body=call(b'["CASE"]').decode().encode("utf-16")),
    dead("body-invalid-utf8", body=call(b'["CASE\xff\xfe"]')),
    dead("body-raw-surrogate", body=call(b'["CASE\xed\xa0\x80"]')),
    dead(
        "body-gzip-bomb",
        body=gzip.compress(b"0" * 50_000_000, 9),
        headers={"compression": "application/x-gzip"},
    ),
    dead("body-too-large", "oversize", body=call(b'["CASE", "' + b"x" * 1024 * 1024 + b'"]')),
    dead("body-1-MB-of-lists", body=call(b"[" + b"[]," * 340_000 + b"[]]")),
)

_JSON = (
    dead("body-depth-7000", **holding(b"[" * 7_000 + b"]" * 7_000)),
    dead("body-depth-100000", **holding(b"[" * 100_000 + b"]" * 100_000)),
    dead("body-depth-300", **holding(b'{"a":' * 300 + b"1" + b"}" * 300)),
    dead("body-nan", **holding("NaN")),
    dead("body-infinity", **holding("-Infinity")),
    dead("body-1e400", **holding("1e400")),
    dead("body-1e400000", **holding("1e400000")),
    dead("body-5000-digits", **holding("9" * 5_000)),
    dead("body-duplicate-keys", body=call(b'["CASE"]', b'{"amount": 1, "amount": 2}')),
    dead("body-lone-surrogate", **holding(r'"\ud800"')),
    dead("body-nan-for-the-plain-task", body=call(b"[NaN]"), plain=True),
    dead("body-surrogate-for-the-plain-task", body=call(rb'["\udfff CASE"]'), plain=True),
    dead("body-depth-300-for-the-plain-task", body=call(b"[" * 300 + b"]" * 300), plain=True),
    dead("body-duplicates-for-the-plain-task", body=call(b'[{"a": 1, "a": 2}]'), plain=True),
)

_TYPES = (
    dead("type-unknown", **typed("os.system", "true")),
    dead("type-list", **typed(["decimal"], "1")),
    dead("type-uuid-of-nonsense", **typed("uuid", {"int": -1, "is_safe": []})),
    dead("type-uuid-of-text", **typed("uuid", "x")),
    dead("type-decimal-nan", **typed("decimal", "NaN")),
    dead("type-decimal-snan", **typed("decimal", "sNaN")),
    dead("type-decimal-infinity", **typed("decimal", "Infinity")),
    dead("type-decimal-of-none", **typed("decimal", None)),
    dead("type-datetime-infinity", **typed("datetime", "infinity")),
    dead("type-datetime-year-20000", **typed("datetime", "20000-01-01T00:00:00")),
    dead("type-base64-of-nonsense", **typed("base64", "é")),
    runs("type-decimal-of-a-million-zeros", "a number like any other", **typed("decimal", "1e999999")),
)

_SHAPE = (
    dead("body-object", body=b'{"task": "CASE", "id": "CASE", "args": [], "kwargs": {}}'),
    dead("body-two-parts", body=b'[["CASE"], {}]'),
    dead("body-four-parts", body=b'[["CASE"], {}, {}, {}]'),
    dead("body-args-text", body=call(b'"C"')),
    dead("body-args-object", body=call(b'{"CASE": 1}')),
    dead("body-args-null", body=call(b"null")),
    dead("body-kwargs-list", body=call(b'["CASE"]', b'[["amount", "1"]]')),
    dead("body-kwargs-null", body=call(b'["CASE"]', b"null")),
    dead("embed-text", body=call(b'["CASE"]', embed=b'"x"')),
    dead("embed-list", body=call(b'["CASE"]', embed=b"[1]")),
    dead("embed-callbacks-text", **embedding(callbacks="x")),
    dead("embed-callbacks-of-nothing", **embedding(callbacks=[{}])),
    dead("embed-errbacks-int", **embedding(errbacks=5)),
    dead("embed-chain-of-texts", **embedding(chain=["x"])),
    dead("embed-chord-text", **embedding(chord="x")),
    dead("embed-task-is-a-number", **embedding(callbacks=[{"task": 5}])),
    dead(
        "embed-signature-with-odd-parts",
        **embedding(callbacks=[{"task": "x", "args": 5, "kwargs": [], "options": 7}]),
    ),
    runs("embed-null", "nothing follows", body=call(b'["CASE"]', embed=b"null")),
    runs(
        "embed-of-celerys-insides",
        "only what follows is taken from it",
        **embedding(id="other", task=5, delivery_info=5, rt_priority="x", callbacks=None),
    ),
)

BAD_BODIES: tuple[BadMessage, ...] = (*_BYTES, *_JSON, *_TYPES, *_SHAPE)
