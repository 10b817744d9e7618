"""Structured logs: the running task on every line, readable under any formatter, nobody's own setup replaced."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from celery.app.log import TaskFormatter
from celery.signals import after_setup_logger
from celery.utils.log import ColorFormatter

from reliable_tasks.observe.logs import (
    LogFormat,
    StructuredFormatter,
    configure_logging,
    restyle,
    route_events_to_logging,
)
from reliable_tasks.worker.celery_logging import join_celery_logging


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root, configured = logging.getLogger(), structlog.is_configured()
    handlers, level, pika = list(root.handlers), root.level, logging.getLogger("pika").level
    yield
    root.handlers, root.level = handlers, level
    logging.getLogger("pika").setLevel(pika)
    structlog.contextvars.clear_contextvars()
    if not configured:
        structlog.reset_defaults()


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


def alone(form: LogFormat, stream: io.StringIO) -> None:
    """Configure a program without handlers; pytest adds its own for the time of a test."""
    logging.getLogger().handlers = []
    configure_logging(form, stream=stream)


def running(**fields: Any) -> Any:
    return structlog.contextvars.bound_contextvars(
        **{"task_id": "t-1", "idempotency_key": "order:7", "attempt": 2, **fields}
    )


def test_an_event_and_a_plain_line_carry_the_running_task(written: io.StringIO) -> None:
    alone("json", written)
    with running():
        structlog.get_logger("ours").warning("lease_not_extended", key="order:7")
        logging.getLogger("theirs").info("100%% of %s", "it")
    structlog.get_logger("ours").info("idle")
    event, plain, idle = map(json.loads, written.getvalue().splitlines())
    for line in (event, plain):
        assert (line["task_id"], line["idempotency_key"], line["attempt"]) == ("t-1", "order:7", 2)
    assert (event["event"], event["key"], event["level"]) == ("lease_not_extended", "order:7", "warning")
    assert (plain["event"], plain["logger"]) == ("100% of it", "theirs")
    assert event["timestamp"].endswith("+00:00")
    assert "task_id" not in idle


def test_lines_for_people(written: io.StringIO) -> None:
    alone("console", written)
    with running():
        logging.getLogger("theirs").warning("funds are low")
    assert "warning  funds are low task_id=t-1 idempotency_key=order:7 attempt=2" in written.getvalue()


def test_a_traceback_is_kept_in_both_forms(written: io.StringIO) -> None:
    alone("json", written)
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("ours").error("failed", exc_info=True)
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, sys.exc_info())
    assert "ValueError: no" in json.loads(written.getvalue())["exception"]
    assert "\nTraceback" in StructuredFormatter("console").format(record)


def test_under_somebody_elses_formatter_our_events_are_text(written: io.StringIO) -> None:
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(name)s | %(message)s"))
    logging.getLogger().addHandler(handler)
    configure_logging("json", stream=io.StringIO())
    with running():
        structlog.get_logger("ours").warning("50%_done", queue="payments")
    line = written.getvalue().strip()
    assert line.startswith("ours | 50%_done ")
    assert "queue=payments" in line
    assert "task_id=t-1" in line


def test_a_program_that_configured_structlog_keeps_it() -> None:
    seen: list[Any] = []

    def own(_logger: Any, _method: str, event: Any) -> Any:
        seen.append(event["event"])
        raise structlog.DropEvent

    structlog.configure(processors=[own])
    try:
        route_events_to_logging()
        structlog.get_logger("ours").warning("hello")
    finally:
        structlog.reset_defaults()
    assert seen == ["hello"]


@pytest.mark.parametrize(
    ("formatter", "ours"),
    [
        (ColorFormatter("[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"), True),
        (ColorFormatter("%(message)s"), False),
        (TaskFormatter("%(message)s"), False),
        (logging.Formatter("[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"), False),
        (None, False),
    ],
    ids=["celery's default", "celery with a format of the user", "task format of the user", "theirs", "none"],
)
def test_only_handlers_as_celery_makes_them_are_restyled(
    formatter: logging.Formatter | None, ours: bool
) -> None:
    handler = logging.NullHandler()
    handler.setFormatter(formatter)
    logger = logging.getLogger("reliable_tasks.tests.restyled")
    logger.handlers = [handler]
    before = list(after_setup_logger.receivers or ())
    after_setup_logger.receivers = []
    try:
        join_celery_logging(route_events_to_logging, lambda each: restyle(each, "json"))
        after_setup_logger.send(sender=None, logger=logger)
    finally:
        after_setup_logger.receivers = before
        logger.handlers = []
    assert isinstance(handler.formatter, StructuredFormatter) == ours
    assert ours or handler.formatter is formatter
