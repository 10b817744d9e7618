"""Tasks that leave a mark for each run."""

import os
from pathlib import Path

from reliable_tasks import ReliableCelery, Retry, TaskContext, TransientError

app = ReliableCelery("signed", topology="topology:TOPOLOGY")


def mark(name: str) -> int:
    """Leave a mark; returns how many there are."""
    path = Path(os.environ["TESTS_PLACE"]) / name
    with path.open("a") as marks:
        marks.write("x")
    return path.stat().st_size


@app.idempotent_task(key="pay:{order}", effects="database", queue="payments")
def pay(ctx: TaskContext, order: str) -> str:
    mark(order)
    return order


@app.idempotent_task(key="flaky:{order}", effects="none", queue="payments", retry=Retry(base_seconds=0.1))
def flaky(ctx: TaskContext, order: str) -> str:
    if mark(order) < 2:
        raise TransientError("not yet")
    return order


@app.idempotent_task(key="fail:{order}", effects="database", queue="payments")
def fail_once(ctx: TaskContext, order: str) -> str:
    if mark(order) < 2:
        raise ValueError("the first time")
    return order


@app.idempotent_task(key="notify:{order}", effects="none", queue="notifications")
def notify(ctx: TaskContext, order: str) -> str:
    mark(order)
    return order


@app.task
def plain(name: str) -> str:
    mark(name)
    return name
