"""Celery's result, request and traceback as columns of the results table."""

import json
import traceback as tracebacks
from datetime import datetime
from typing import Any

from kombu.utils.json import JSONEncoder

from reliable_tasks.model.envelope import CORRELATION_ID, ENQUEUED_AT, replay_number
from reliable_tasks.model.headers import moment
from reliable_tasks.model.storable import storable, storable_json
from reliable_tasks.store.clock import record_time
from reliable_tasks.worker.arguments import to_wire

_ENCODER = JSONEncoder()
_AS_IT_IS = frozenset({str, int, bool, type(None)})
"""What a reader of JSON finds as it was written."""

NO_FAILURE = dict.fromkeys(("exception_type", "exception_message", "traceback"))
"""Clears what an attempt before has left."""


def encoded(value: Any) -> bytes:
    """A result as JSON bytes that keep Decimal, date, datetime and UUID."""
    return _ENCODER.encode(to_wire(value)).encode()


def readable(value: Any) -> Any:
    """Arguments as plain JSON for people and SQL: money and times as text."""
    if not value and type(value) in (list, dict):
        return value
    if type(value) is list and _AS_IT_IS.issuperset(map(type, value)):
        return storable_json(value)
    return storable_json(json.loads(json.dumps(to_wire(value), default=str)))


def result_columns(result: Any, celery_state: str, traceback: str | None) -> dict[str, Any]:
    """Columns that say how a task ended, from what Celery hands to its backend."""
    columns: dict[str, Any] = {
        "result": encoded(result),
        "traceback": storable(traceback) if traceback else None,
    }
    if isinstance(result, dict) and "exc_type" in result:
        columns["exception_type"] = str(result["exc_type"])
        columns["exception_message"] = _text(result.get("exc_message"))
    if celery_state == "STARTED":
        columns["result"] = None
    return columns


def failure_columns(failure: BaseException) -> dict[str, Any]:
    """The same for a failure that Celery has not seen."""
    return {
        "result": encoded(
            {
                "exc_type": type(failure).__name__,
                "exc_message": [str(failure)],
                "exc_module": type(failure).__module__,
            }
        ),
        "exception_type": type(failure).__name__,
        "exception_message": storable(str(failure)),
        "traceback": storable("".join(tracebacks.format_exception(failure))),
    }


def request_columns(request: dict[str, Any], queue: str, args: Any, kwargs: Any) -> dict[str, Any]:
    """Columns that say which task it was, from the message's headers."""
    return {
        "name": request.get("task"),
        "queue": queue,
        "priority": request.get("rt_priority"),
        "args": readable(args),
        "kwargs": readable(kwargs),
        "worker": request.get("hostname"),
        "root_id": request.get("root_id"),
        "parent_id": request.get("parent_id"),
        "correlation_id": request.get(CORRELATION_ID),
        "replay": replay_number(request),
        "enqueued_at": _moment(request.get(ENQUEUED_AT)),
    }


def _moment(value: Any) -> datetime | None:
    """A header's time; None when it is none: a foreign sender's clock must not stop a record."""
    try:
        return moment(value)
    except (TypeError, ValueError):
        return None


def now() -> datetime:
    """The time of day for records, aware UTC; never used to decide about leases."""
    return record_time()


def _text(message: Any) -> str:
    if isinstance(message, (list, tuple)):
        return storable(", ".join(str(part) for part in message if part != ""))
    return storable(str(message))
