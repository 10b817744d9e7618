"""Headers and properties that no honest sender makes."""

import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.integration.bad_input.bad_message import MISSING, BadMessage, End, dead, runs
from tests.integration.bad_input.raw_properties import Raw, nested_lists, nested_tables, text, timestamp

NOBODY_READS_IT = "nobody reads this header"
LARGE = "x" * 64 * 1024
NAMES: dict[str, Any] = {
    "missing": MISSING,
    "none": None,
    "int": 5,
    "bytes": b"\xff\xfe",
    "no-utf8": text(b"\xff\xfe"),
    "table": {"a": 1},
    "list": ["a"],
    "empty": "",
    "64KiB": LARGE,
    "nul": "CASE\x00",
    "ansi": "CASE\x1b[2J\x1b]0;owned\x07",
    "surrogate": text("a\ud800".encode("utf-8", "surrogatepass")),
}

_NAMES = tuple(
    dead(f"{header}-{kind}", headers={header: value})
    for header in ("id", "task")
    for kind, value in NAMES.items()
)

_OF_CELERY: dict[str, dict[str, Any]] = {
    "root_id": {"int": 5, "64KiB": LARGE, "nul": "\x00"},
    "parent_id": {"table": {"a": 1}, "nul": "a\x00b"},
    "group": {"int": 5, "list": ["a"]},
    "group_index": {"text": "first"},
    "retries": {
        "text": "x",
        "minus-1": -1,
        "10^9": 10**9,
        "2^40": 2**40,
        "true": True,
        "decimal": Decimal("1.5"),
    },
    "timelimit": {
        "int": 5,
        "texts": ["a", "b"],
        "one": [1],
        "minus-1": [-1, None],
        "three": [1, 2, 3],
    },
    "stamped_headers": {"int": 5, "ints": [5]},
    "stamps": {"list": ["a"]},
    "shadow": {"table": {"a": 1}, "ansi": "\x1b[31m"},
    "ignore_result": {"text": "yes"},
    "replaced_task_nesting": {"text": "x"},
    "eta": {
        "text": "soon",
        "2^63": 2**63 - 1,
        "table": {"a": 1},
        "year-20000": "20000-01-01T00:00:00+00:00",
        "infinity": "infinity",
        "before-time": "0001-01-01T00:00:00+23:59",
        "after-time": "9999-12-31T23:59:59-23:59",
    },
    "expires": {"text": "nonsense", "int": 5, "2^63": 2**63 - 1, "after-time": "9999-12-31T23:59:59-23:59"},
    "rt-correlation-id": {"table": {"a": 1}, "nul": "\x00", "64KiB": LARGE},
}

_TYPES = tuple(
    dead(f"{header}-{kind}", headers={header: value})
    for header, kinds in _OF_CELERY.items()
    for kind, value in kinds.items()
)

_UNREAD = (
    runs("header-64KiB", NOBODY_READS_IT, headers={"trace": LARGE}),
    runs("header-64-bit", NOBODY_READS_IT, headers={"n": 2**63 - 1}),
    runs(
        "header-decimal",
        NOBODY_READS_IT,
        headers={"n": Decimal("1.5"), "m": Raw(struct.pack(">cBi", b"D", 255, -1))},
    ),
    runs("header-year-9999", NOBODY_READS_IT, headers={"at": datetime(9999, 12, 31, 23, 59, 59)}),  # noqa: DTZ001 as pika wants it
    runs("header-not-utf8", NOBODY_READS_IT, headers={"b": text(b"\xff"), "c": b"\x00\xff"}),
    runs("header-x-death-text", NOBODY_READS_IT, headers={"x-death": "garbage"}),
    runs(
        "header-x-twice", NOBODY_READS_IT, headers={"x-a": 1}, twice={"x-a": "2", "x-delivery-count": 10**6}
    ),
    runs(
        "rt-replay-text",
        "a number that is none counts as none",
        headers={"rt-replay": "x", "rt-put-back": -1},
    ),
    runs(
        "enqueued-at-year-20000", "a foreign clock stops no record", headers={"rt-enqueued-at": "20000-01-01"}
    ),
    runs("enqueued-at-infinity", "a foreign clock stops no record", headers={"rt-enqueued-at": "infinity"}),
    runs(
        "enqueued-at-after-time",
        "a foreign clock stops no record",
        headers={"rt-enqueued-at": "9999-12-31T23:59:59-23:59"},
    ),
    runs("id-zero-width", "letters of any script are an id", headers={"id": "CASE\u200d\u202e"}),
    dead("header-year-20000", headers={"at": timestamp(568_971_820_800)}),
    dead("header-timestamp-2^64", headers={"at": timestamp(2**64 - 1)}),
    dead("header-nested-100", headers={"t": nested_tables(100)}),
    dead("header-nested-500", headers={"t": nested_tables(500)}),
    dead("header-nested-20000", headers={"t": nested_lists(20_000)}),
    dead(
        "header-of-celerys-insides",
        "unknown_task",
        headers={"task": "no.such.task", "delivery_info": 5, "args": 5, "hostname": 7},
    ),
    dead("x-death-list", headers={"x-death": [5, {"count": 1}]}),
    dead("x-death-of-nothing", headers={"x-death": [None], "task": "no.such.task"}),
    dead(
        "x-death-counted-in-words",
        headers={"x-death": [{"queue": "default", "reason": "rejected", "count": "x"}]},
    ),
    dead(
        "x-death-garbage-and-unknown", "unknown_task", headers={"task": "no.such.task", "x-death": "garbage"}
    ),
)

_PROPERTIES = (
    runs("reply-to-another-queue", "nothing is ever sent there", properties={"reply_to": "payments.dead"}),
    runs("reply-to-nul", "nothing is ever sent there", properties={"reply_to": "\x00"}),
    runs("priority-255", "its level is the queue's, and its own only a number", properties={"priority": 255}),
    runs("timestamp-2^64", "nobody reads it", properties={"timestamp": 2**64 - 1}),
    BadMessage(
        "expiration-abc", End.NEVER_SENT, "the broker closes the channel", properties={"expiration": "abc"}
    ),
    dead("content-type-missing", properties={"content_type": None}),
    dead("content-type-pickle", properties={"content_type": "application/x-python-serialize"}),
    dead("content-type-yaml", properties={"content_type": "application/x-yaml"}),
    dead("content-type-not-utf8", properties={"content_type": b"\xff\xfe"}),
    dead(
        "content-encoding-utf16",
        body='[["CASE"], {}, {}]'.encode("utf-16"),
        properties={"content_encoding": "utf-16"},
    ),
    dead("content-encoding-unknown", properties={"content_encoding": "klingon"}),
    dead("compression-unknown", headers={"compression": "zzz"}),
    dead("compression-table", headers={"compression": {"a": 1}}),
)

BAD_HEADERS = (*_NAMES, *_TYPES, *_UNREAD, *_PROPERTIES)
