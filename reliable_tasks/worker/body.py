"""A message's body: strict JSON of args, kwargs and what follows, and nothing that could mean two things."""

import json
import re
from decimal import Decimal
from typing import Any

from kombu.utils.json import object_hook

from reliable_tasks.errors import Undecodable
from reliable_tasks.model.headers import is_deeper

DEEPEST = 100
"""Lists and objects in each other: what fits easily into Python's stack on its way through decoding and recording."""

_ENCODINGS = ("", "utf-8", "utf8", "us-ascii", "ascii")
_HINT = "send protocol 2: a JSON list of args, kwargs and embed"
_MAYBE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAYBE_UNREADABLE = re.compile(rb"NaN|Infinity|" + _MAYBE_SURROGATE.pattern)
_LISTS = ("callbacks", "errbacks", "chain")
_NOTHING = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
_KINDS: tuple[tuple[str, Any], ...] = (("args", list), ("kwargs", dict), ("options", dict))


def read_body(body: bytes, encoding: str | None) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Args, kwargs and embed of a task's message.

    Kombu's own decoder takes NaN, numbers that become infinity, and of two equal keys the last one; a second reader
    of the same bytes, Postgres for one, sees something else in them.

    Raises:
        Undecodable: when it is anything but that.
    """
    if (encoding or "").lower() not in _ENCODINGS:
        raise Undecodable(f"the body is encoded as {encoding!r}", hint="send UTF-8")
    try:
        found = _parsed_usual(body) or _parsed(body)
    except Undecodable:
        raise
    except Exception as error:
        raise Undecodable(f"the body is no JSON: {_said(error)}", hint=_HINT) from error
    if not isinstance(found, list) or len(found) != 3:
        raise Undecodable("the body is not a list of three", hint=_HINT)
    args, kwargs, embed = found
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Undecodable("the body's args are no list, or its kwargs no object", hint=_HINT)
    return args, kwargs, _what_follows(embed)


def check_body(body: bytes) -> None:
    """The same for a body that our own encoder has made: only what it lets through needs a look.

    Raises:
        Undecodable: when it is NaN, infinite, half a character or nested too deep.
    """
    if _MAYBE_UNREADABLE.search(body) or _brackets(body) > DEEPEST:
        read_body(body, "")


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _parsed_usual(body: bytes) -> Any:
    """What `_parsed` would find where nothing follows, which most senders write in one way; None where it is to look.

    What is left is only read as a whole list of two when the rest was the third.
    """
    if not body.endswith(_NOTHING) or _brackets(body) > DEEPEST or b"\\" in body:
        return None
    try:
        found = _DECODER.decode(body[: -len(_NOTHING)].decode() + "]")
    except ValueError:
        return None
    return [*found, None] if isinstance(found, list) and len(found) == 2 else None


def _parsed(body: bytes) -> Any:
    if _brackets(body) > DEEPEST and is_deeper(json.loads(body.decode()), DEEPEST):
        raise Undecodable(f"the body has more than {DEEPEST} lists in each other", hint="send less structure")
    found = _DECODER.decode(body.decode())
    if _MAYBE_SURROGATE.search(body):
        json.dumps(found, ensure_ascii=False, default=str).encode()  # raises at a lone one
    return found


def _object(pairs: list[tuple[str, Any]]) -> Any:
    if not pairs:
        return {}
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    value = object_hook(found)
    if isinstance(value, Decimal) and not value.is_finite():
        _no_number(str(value))
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    return value if abs(value) != float("inf") else _no_number(text[:40])


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)


def _what_follows(embed: Any) -> dict[str, Any]:
    """Callbacks, errbacks, chain and chord, and only those: Celery lets the others replace the message's headers."""
    if embed is None:
        return dict.fromkeys((*_LISTS, "chord"))
    if not isinstance(embed, dict):
        raise Undecodable("the body's embed is no object", hint=_HINT)
    for name in _LISTS:
        value = embed.get(name)
        if value is not None and not (isinstance(value, list) and all(map(_is_signature, value))):
            raise Undecodable(f"{name} is no list of signatures", hint=_HINT)
    chord = embed.get("chord")
    if chord is not None and not _is_signature(chord):
        raise Undecodable("chord is no signature", hint=_HINT)
    return {name: embed.get(name) for name in (*_LISTS, "chord")}


def _is_signature(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("task"), str)
        and all(isinstance(value.get(name) or kinds(), kinds) for name, kinds in _KINDS)
    )


def _said(error: Exception) -> str:
    return (
        type(error).__name__
        if isinstance(error, RecursionError)
        else f"{type(error).__name__}: {str(error)[:200]}"
    )
