"""Tasks for a worker of several processes."""

import os
import time
from pathlib import Path
from threading import Event

from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import text

from reliable_tasks import ReliableCelery, TaskContext

app = ReliableCelery("processes", topology="topology:TOPOLOGY")
app.conf.broker_heartbeat = 2
app.conf.worker_prefetch_multiplier = 32
app.conf.worker_proc_alive_timeout = 60  # a busy machine


@app.idempotent_task(key="add:{case}", effects="none", queue="payments")
def add(ctx: TaskContext, case: str) -> int:
    """Says which process has executed it."""
    return os.getpid()


@app.idempotent_task(key="pay:{case}", effects="database", queue="payments")
def pay(ctx: TaskContext, case: str) -> int:
    """Leaves one effect."""
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": case})
    return os.getpid()


@app.idempotent_task(key="wait:{case}", effects="database", queue="payments")
def wait(ctx: TaskContext, case: str) -> int:
    """Leaves its effect, says which process it is in, and waits for a file before it commits."""
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": case})
    _began(case)
    never = Event()
    while not (_place() / f"go-{case}").exists():
        never.wait(0.02)
    return os.getpid()


@app.idempotent_task(key="long:{case}", effects="database", queue="payments")
def long(ctx: TaskContext, case: str) -> int:
    """Takes longer than three of this connection's heartbeats."""
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": case})
    _began(case)
    time.sleep(9)
    return os.getpid()


@app.idempotent_task(key="limited:{case}", effects="database", queue="payments", time_limit=1)
def limited(ctx: TaskContext, case: str) -> None:
    """Leaves an effect, and does not end."""
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": case})
    _began(case)
    Event().wait(60)


@app.idempotent_task(key="soft:{case}", effects="none", queue="payments", soft_time_limit=1)
def soft(ctx: TaskContext, case: str) -> str:
    """Is told that its time is over."""
    try:
        Event().wait(60)
    except SoftTimeLimitExceeded:
        return "told"
    return "not told"


def _place() -> Path:
    return Path(os.environ["TESTS_PLACE"])


def _began(case: str) -> None:
    with (_place() / f"began-{case}").open("a") as marks:
        marks.write(f"{os.getpid()}\n")
