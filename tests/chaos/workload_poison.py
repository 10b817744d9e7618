"""Messages that no worker can execute: each must become a dead letter, and the worker must live on."""

import json
from collections.abc import Callable
from typing import Any

import pika

Made = tuple[bytes, dict[str, Any], dict[str, Any]]
"""Body, headers, and properties other than the usual."""

TRANSFER = "tests.chaos.workload_app.transfer"


def _message(mark: str, **headers: Any) -> dict[str, Any]:
    return {
        "lang": "py",
        "task": TRANSFER,
        "id": mark,
        "root_id": mark,
        "retries": 0,
        "argsrepr": mark,
        **headers,
    }


def _body(mark: str, **kwargs: Any) -> bytes:
    good = {"tid": mark, "source": "1", "target": "2", "amount": 1}
    return json.dumps([[], {**good, **kwargs}, {}]).encode()


def _without(headers: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in headers.items() if key != name}


CLASSES: dict[str, Callable[[str], Made]] = {
    "unknown task": lambda mark: (_body(mark), _message(mark, task="nobody.knows"), {}),
    "no task": lambda mark: (_body(mark), _without(_message(mark), "task"), {}),
    "no id": lambda mark: (_body(mark), _without(_message(mark), "id"), {}),
    "empty body": lambda mark: (b"", _message(mark), {}),
    "truncated body": lambda mark: (_body(mark)[:-9], _message(mark), {}),
    "bad text": lambda mark: (b'[[], {"tid": "\xff\xfe"}, {}]', _message(mark), {}),
    "pickle": lambda mark: (
        b"\x80\x04]\x94.",
        _message(mark),
        {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
    ),
    "yaml": lambda mark: (_body(mark), _message(mark), {"content_type": "application/x-yaml"}),
    "compressed": lambda mark: (b"\x1f\x8bnothing", _message(mark, compression="application/x-gzip"), {}),
    "deep": lambda mark: (b"[[], {}, " + b"[" * 5000 + b"]" * 5000 + b"]", _message(mark), {}),
    "not a number": lambda mark: (_body(mark, amount=float("nan")), _message(mark), {}),
    "huge number": lambda mark: (_body(mark).replace(b": 1}", b": 1e400}"), _message(mark), {}),
    "wrong argument": lambda mark: (_body(mark, amount="much"), _message(mark), {}),
    "too many arguments": lambda mark: (_body(mark, more=1), _message(mark), {}),
    "no key": lambda mark: (_body(mark, tid=""), _message(mark), {}),
    "retries no number": lambda mark: (_body(mark), _message(mark, retries="many"), {}),
    "time limit no number": lambda mark: (_body(mark), _message(mark, timelimit=["x", "y"]), {}),
    "never due": lambda mark: (_body(mark), _message(mark, eta="once upon a time"), {}),
}


def publish(channel: Any, kind: str, mark: str) -> None:
    """Send one, as any program with a broker client could."""
    body, headers, more = CLASSES[kind](mark)
    usual = {"content_type": "application/json", "content_encoding": "utf-8", "correlation_id": mark}
    properties = pika.BasicProperties(headers=headers, delivery_mode=2, **{**usual, **more})
    channel.basic_publish("commands", "payments", body, properties, mandatory=True)
