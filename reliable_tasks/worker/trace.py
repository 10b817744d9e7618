"""What the pool process calls for each delivery."""

import time
from dataclasses import replace
from typing import Any

from celery.utils.log import get_logger
from tenacity import Retrying, retry_if_exception, wait_random_exponential

from reliable_tasks.errors import Fenced
from reliable_tasks.store.engine import is_outage, will_pass
from reliable_tasks.worker.call import Delivery, delivery_of
from reliable_tasks.worker.delivery import process
from reliable_tasks.worker.fenced import note_fenced
from reliable_tasks.worker.outcome import Settlement
from reliable_tasks.worker.running import running_app
from reliable_tasks.worker.unrecorded import unrecorded

logger = get_logger("reliable_tasks.worker")

CONTENTIONS = 12
"""Transactions of one delivery that Postgres ends for others' sake: so many in a row are what the task does itself."""


def trace(
    task_name: str,
    task_id: str,
    request: dict[str, Any],
    body: bytes,
    content_type: str,
    content_encoding: str,
    headers: dict[str, Any],
    broker_priority: int | None,
) -> tuple[int, str, float]:
    """Process one delivery; the answer is (0, settlement, seconds)."""
    app = running_app()
    started = time.monotonic()
    delivery = delivery_of(
        app, task_name, task_id, request, body, content_type, content_encoding, headers, broker_priority
    )
    return 0, settlement_of(app, delivery).value, time.monotonic() - started


def settlement_of(app: Any, delivery: Delivery, ahead: Any = None) -> Settlement:
    """What the broker is told, once the rows of this delivery are committed.

    While the database is away, or ends a deadlock with this, it waits and tries again: the prefetched messages stay
    with the broker, which is the back-pressure, and nothing is settled without its rows.

    Args:
        ahead: an execution of it that came before its claim (`worker.ahead`).
    """
    contended = 0
    for attempt in Retrying(
        retry=retry_if_exception(will_pass), wait=wait_random_exponential(0.2, 10), reraise=True
    ):
        delivery = replace(delivery, begun=attempt.retry_state.attempt_number - 1)
        with attempt:
            try:
                return process(app.runtime, app.tasks[delivery.task_name], delivery, ahead)
            except Fenced as reason:
                logger.warning("Task %s[%s]: %s", delivery.task_name, delivery.task_id, reason.message)
                note_fenced(app.runtime, delivery)
                return Settlement.ACK
            except Exception as error:
                contended += not is_outage(error)
                if will_pass(error) and contended < CONTENTIONS:
                    raise
                # said here and not by raising: a pool of threads would never settle the delivery
                return unrecorded(app.runtime, delivery, error)
    raise AssertionError("it tries again until it has an answer")
