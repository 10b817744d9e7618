"""Tasks of which a worker takes many at a time."""

import os
import signal
from pathlib import Path

from sqlalchemy import text

from reliable_tasks import PermanentError, ReliableCelery, TaskContext, TransientError

app = ReliableCelery("together", topology="topology:TOPOLOGY")
app.conf.worker_prefetch_multiplier = 32


@app.idempotent_task(key="add:{case}", effects="none", queue="payments")
def add(ctx: TaskContext, case: str, number: int) -> int:
    """Adds one."""
    return number + 1


@app.idempotent_task(key="told:{case}", effects="none", queue="payments")
def told(ctx: TaskContext, case: str, number: int) -> str:
    """Sends another task, and returns."""
    ctx.enqueue(add.s(case=f"after-{case}", number=number))
    return case


@app.idempotent_task(key="refused:{case}", effects="none", queue="payments")
def refused(ctx: TaskContext, case: str, number: int) -> None:
    """Fails for good, and says how often it was executed."""
    _mark(case)
    raise PermanentError("never")


@app.idempotent_task(key="flaky:{case}", effects="none", queue="payments")
def flaky(ctx: TaskContext, case: str, number: int) -> int:
    """Fails the first time."""
    if ctx.attempt == 1:
        raise TransientError("once more")
    return ctx.attempt


@app.idempotent_task(key="big:{case}", effects="none", queue="payments")
def big(ctx: TaskContext, case: str, number: int) -> int:
    """A number that is larger than most programs take."""
    return 10**40


@app.idempotent_task(key="killer:{case}", effects="none", queue="payments")
def killer(ctx: TaskContext, case: str, number: int) -> str:
    """Ends its process the first time."""
    if _mark(case) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return case


@app.idempotent_task(key="pay:{case}", effects="database", queue="payments")
def pay(ctx: TaskContext, case: str, number: int) -> int:
    """Leaves an effect in a transaction of its own."""
    return _pay(ctx, case, number)


@app.idempotent_task(key="batch:{case}", effects="database", queue="payments", batch=10)
def pay_in_batches(ctx: TaskContext, case: str, number: int) -> int:
    """Leaves an effect in a transaction that it shares."""
    return _pay(ctx, case, number)


@app.idempotent_task(key="kill:{case}", effects="database", queue="payments", batch=10)
def kill_batch(ctx: TaskContext, case: str, number: int) -> int:
    """The same; one of them ends its process the first time, when it has left its effect."""
    paid = _pay(ctx, case, number)
    if number == 5 and _mark(case) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return paid


@app.idempotent_task(key="move:{case}", effects="database", queue="payments", batch=10)
def move(ctx: TaskContext, case: str, number: int) -> None:
    """Changes two of few accounts, in an order that all tasks keep to, but no two batches."""
    for account in sorted({number % 7, number % 11}):
        ctx.session.execute(text("UPDATE accounts SET moved = moved + 1 WHERE id = :id"), {"id": account})


def _pay(ctx: TaskContext, case: str, number: int) -> int:
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": case})
    return number + 1


def _mark(case: str) -> int:
    path = Path(os.environ["TESTS_PLACE"]) / f"began-{case}"
    with path.open("a") as marks:
        marks.write("x")
    return path.stat().st_size
