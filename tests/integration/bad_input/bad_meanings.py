"""Messages that can be read, and mean what cannot be done, or what only looks strange."""

import json
from datetime import UTC, datetime, timedelta

from tests.integration.bad_input.bad_bodies import call, embedding, holding
from tests.integration.bad_input.bad_message import BadMessage, End, dead, runs

_NOW = datetime.now(UTC)
STRANGE_TEXT = "\u202egnp.exe \u200b\u2066 \x1b[2J\x1b]0;owned\x07 \x9b31m \x00 \r\nforged line"


def _in(seconds: float) -> str:
    return (_NOW + timedelta(seconds=seconds)).isoformat()


_TASKS = (
    dead("task-unknown", "unknown_task", headers={"task": "no.such.task"}),
    dead("task-unknown-with-a-bad-body", "unknown_task", headers={"task": "no.such.task"}, body=b"\x80"),
    dead("args-too-few", body=call(b"[]")),
    dead("args-too-many", body=call(b'["CASE", "1", 2, 3]')),
    dead("args-unexpected-name", body=call(b'["CASE"]', b'{"self": 1}')),
    dead("args-of-another-type", **holding('["no amount"]')),
    dead("args-float-as-money", **holding("1.10")),
    dead("plain-args-too-many", "permanent", body=call(b'["CASE", 1, 2, 3]'), plain=True),
)

_KEYS = (
    dead("key-empty", body=call(b'[""]')),
    dead("key-null", body=call(b"[null]")),
    runs("key-256", "a key may have 500 characters", body=call(b'["CASE' + b"k" * 220 + b'"]')),
    dead("key-10^6", body=call(b'["CASE' + b"k" * 10**6 + b'"]')),
    dead("key-nul", body=call(rb'["CASE\u0000"]')),
    dead("key-ansi", body=call(rb'["CASE\u001b[2J"]')),
    runs("key-right-to-left", "letters of any script are a key", body=call(rb'["CASE\u202e\u200b"]')),
)

_TIMES = (
    runs("eta-past", "due since then", headers={"eta": "2001-01-01T00:00:00+00:00"}),
    runs("eta-naive", "UTC, as Celery sends it", headers={"eta": "2001-01-01T00:00:00"}),
    BadMessage("eta-9998", End.WAITS, "a date like any other", headers={"eta": "9998-01-01T00:00:00+00:00"}),
    BadMessage(
        "expires-past", End.EXPIRES, "it came too late", headers={"expires": _in(-1), "ignore_result": True}
    ),
    BadMessage(
        "expires-before-eta",
        End.EXPIRES,
        "too late when it is due",
        headers={"expires": _in(0.5), "eta": _in(1)},
    ),
)

_TEXTS = (
    runs(
        "text-nul",
        "text like any other; what is shown of it has a mark there",
        body=call(rb'["CASE\u0000"]'),
        plain=True,
    ),
    runs(
        "text-strange",
        "text like any other; shown with its marks visible",
        body=call(json.dumps([STRANGE_TEXT]).encode()),
        plain=True,
    ),
    dead(
        "text-strange-in-a-dead-letter",
        "permanent",
        body=call(json.dumps([STRANGE_TEXT, 2, 3]).encode()),
        plain=True,
        headers={"argsrepr": STRANGE_TEXT, "origin": STRANGE_TEXT},
    ),
)

_CANVAS = (
    runs("group-of-nobody", "only a name", headers={"group": "no-such-group", "group_index": 7}),
    dead(
        "callback-of-an-unknown-task",
        "permanent",
        **embedding(
            callbacks=[{"task": "no.such.task", "args": [], "kwargs": {}, "options": {"queue": "nowhere"}}]
        ),
    ),
)

BAD_MEANINGS: tuple[BadMessage, ...] = (*_TASKS, *_KEYS, *_TIMES, *_TEXTS, *_CANVAS)
