"""Tasks without effects, which a worker takes many at a time."""

import os
import signal
from pathlib import Path

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


def _mark(case: str) -> int:
    path = Path(os.environ["TESTS_PLACE"]) / f"began-{case}"
    with path.open("a") as marks:
        marks.write("x")
    return path.stat().st_size
