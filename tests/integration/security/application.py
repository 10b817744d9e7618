"""A bit of everything that a deployment does: effects, failures, retries, what follows, results."""

import os
from pathlib import Path

from sqlalchemy import text

from reliable_tasks import PermanentError, ReliableCelery, Retry, TaskContext, TransientError

app = ReliableCelery("secured", topology="topology:TOPOLOGY")


def mark(name: str) -> int:
    """Leave a mark; returns how many there are."""
    path = Path(os.environ["TESTS_PLACE"]) / name
    with path.open("a") as marks:
        marks.write("x")
    return path.stat().st_size


@app.idempotent_task(key="pay:{order}", effects="database", queue="payments")
def pay(ctx: TaskContext, order: str) -> str:
    """Write one effect; send what follows with it."""
    ctx.session.execute(
        text("INSERT INTO effects (key, attempt) VALUES (:k, :a)"), {"k": order, "a": ctx.attempt}
    )
    ctx.enqueue(note.s(f"{order}-paid"))
    return order


@app.idempotent_task(
    key="tell:{order}", effects="external", queue="notifications", retry=Retry(base_seconds=0.1)
)
def tell(ctx: TaskContext, order: str) -> str:
    """Needs two attempts."""
    if mark(order) < 2:
        raise TransientError("not yet")
    return order


@app.idempotent_task(key="refuse:{order}", effects="database", queue="payments")
def refuse(ctx: TaskContext, order: str) -> str:
    """Dies once, and succeeds when it is replayed."""
    if mark(order) < 2:
        raise PermanentError("the first time")
    return order


@app.task
def note(name: str) -> str:
    """A plain task."""
    mark(name)
    return name


@app.task
def total(numbers: list[int]) -> int:
    """What a chord ends with."""
    return sum(numbers)


@app.task
def echo(number: int) -> int:
    """A part of a chord."""
    return number


@app.task
def fail(name: str) -> None:
    """A plain task that fails."""
    raise ValueError(f"no {name}")
