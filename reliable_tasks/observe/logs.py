"""Structured logs: one line for each event, with the task, key and attempt that is running.

Events of structlog and of plain `logging` get the same fields, so a line that a task's own code logs says which
attempt it belongs to. Under a formatter that is not ours, our events are still readable text.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import structlog
from structlog.contextvars import get_merged_contextvars
from structlog.typing import WrappedLogger

LogFormat = Literal["console", "json"]
EventDict = MutableMapping[str, Any]

_FIELDS = "reliable_tasks_fields"
_EVENT = "reliable_tasks_event"
_FIRST = ("task_id", "idempotency_key", "attempt")

_pairs = structlog.processors.LogfmtRenderer(bool_as_flag=False)


class StructuredFormatter(logging.Formatter):
    """Renders any record as one JSON object, or as one line for people (a traceback then follows it)."""

    def __init__(self, form: LogFormat = "console") -> None:
        super().__init__()
        self.form = form

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        found = {**get_merged_contextvars(structlog.get_logger()), **getattr(record, _FIELDS, {})}
        first = {name: found[name] for name in _FIRST if name in found}
        fields = {**first, **found}
        event = getattr(record, _EVENT, None) or record.getMessage()
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self.form == "console":
            line = f"{when} {record.levelname.lower():<8} {event}"
            rest = _text({**fields, "logger": record.name, "process": record.processName})
            return "\n".join(part for part in (f"{line} {rest}", trace) if part)
        values = {
            "timestamp": when,
            "level": record.levelname.lower(),
            "event": event,
            **fields,
            "logger": record.name,
            "process": record.processName,
        }
        if trace:
            values["exception"] = trace
        return json.dumps(values, ensure_ascii=False, default=str)


def route_events_to_logging() -> None:
    """Send structlog's events to `logging`, unless the program has configured structlog itself."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.contextvars.merge_contextvars, _as_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def format_of(setting: str) -> LogFormat | None:
    """The format that a setting asks for; None for Celery's own."""
    return {"console": "console", "json": "json"}.get(setting)  # type: ignore[return-value]  # mypy widens the values to str


def restyle(handler: logging.Handler, form: LogFormat) -> None:
    """Give a handler our formatter."""
    handler.setFormatter(StructuredFormatter(form))


def configure_logging(form: LogFormat, *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Log to stderr, for programs of ours that are no Celery worker; handlers that are there already stay."""
    route_events_to_logging()
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(stream or sys.stderr)
    restyle(handler, form)
    root.addHandler(handler)
    root.setLevel(level)


def _as_record(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The arguments of the call to `logging`: text for any formatter, the fields apart for ours."""
    name = str(event.pop("event", ""))
    options = {each: event.pop(each) for each in ("exc_info", "stack_info") if each in event}
    fields = dict(event)
    text = f"{name} {_text(fields)}" if fields else name
    return (text,), {**options, "extra": {_FIELDS: fields, _EVENT: name}}


def _text(fields: EventDict) -> str:
    plain = {key: value if value is None else str(value) for key, value in fields.items()}
    return str(_pairs(None, "", plain))
