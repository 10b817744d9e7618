"""Celery as a careful team sets it up, and its variants, by what the environment says (see stock_celery.py)."""

import os
from typing import Any

import psycopg2
from celery import Celery
from kombu import Queue

from bench import bank
from bench.addresses import addresses
from bench.system import database_url

BROKER = os.environ.get("BENCH_BROKER", "quorum")
"""quorum, classic or redis."""

RESULTS = os.environ.get("BENCH_RESULTS", "db")
"""db, redis or none."""

STARTED = os.environ.get("BENCH_STARTED", "1") == "1"
PREFETCH = int(os.environ.get("BENCH_PREFETCH", "4"))

app = Celery("bench")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue="bench",
    worker_prefetch_multiplier=PREFETCH,
    broker_connection_retry_on_startup=True,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
)
if BROKER == "redis":
    app.conf.broker_url = addresses().redis + "/0"
else:
    app.conf.update(
        broker_url=addresses().vhost,
        broker_transport_options={"confirm_publish": True},
        task_queues=[Queue("bench", routing_key="bench", queue_arguments={"x-queue-type": BROKER})],
        worker_detect_quorum_queues=True,
    )
if RESULTS == "db":
    app.conf.result_backend = "db+" + database_url("psycopg2")
elif RESULTS == "redis":
    app.conf.result_backend = addresses().redis + "/1"
if RESULTS == "none":
    app.conf.task_ignore_result = True
else:
    app.conf.update(result_extended=True, task_track_started=STARTED)

if os.environ.get("BENCH_ENGINE") == "pooled":
    # SessionManager keeps an engine only in a forked process; elsewhere it makes a new one, without a pool, for
    # every read and write. This is the patch that an operator might make.
    from celery.backends import database

    _shared = database.SessionManager()
    _shared.forked = True
    database.SessionManager = lambda engine_callback=None: _shared


@app.task(name="bench.work")
def work(serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task."""
    return {"account": account, "amount": amount, "ok": True}


@app.task(name="bench.sum")
def total(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)


@app.task(name="bench.number")
def number(n: int) -> int:
    """A part of a chord's header."""
    return n


_connection: Any = None


def _bank() -> Any:
    global _connection
    if _connection is None:
        _connection = psycopg2.connect(database_url())
    return _connection


@app.task(name="bench.transfer")
def transfer(serial: int, source: int, target: int, amount: int) -> dict[str, Any]:
    """What a careful developer writes by hand: claim and effect in one transaction, Celery's result in others."""
    connection = _bank()
    with connection, connection.cursor() as cursor:
        bank.by_hand(cursor, serial, source, target, amount)
    return {"source": source, "target": target, "amount": amount}
