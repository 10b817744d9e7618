"""Tasks for headers and bodies."""

import os
from pathlib import Path
from typing import Any

from celery import chord

from reliable_tasks import PermanentError, ReliableCelery, TaskContext

PLACE = Path(os.environ.get("TESTS_PLACE", "."))
app = ReliableCelery("chords", topology="topology:TOPOLOGY", remote_control="ALONE" not in os.environ)


def mark(name: str, text: str = "x") -> None:
    """Append a line to a file, for tests that count."""
    with (PLACE / name).open("a") as file:
        file.write(f"{text}\n")


@app.task
def echo(value: Any) -> Any:
    return value


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def gather(values: list[Any], name: str) -> list[Any]:
    """A body that says that it ran."""
    mark(name)
    return values


@app.task
def heard(_failed_id: str, name: str) -> None:
    """An errback."""
    mark(name)


@app.task
def fail_until(name: str) -> str:
    if not (PLACE / f"{name}-good").exists():
        raise ValueError("not good yet")
    return name


@app.task(ignore_result=True)
def quiet() -> str:
    return "not kept"


@app.idempotent_task(key="part:{name}:{number}", effects="database")
def part(ctx: TaskContext, name: str, number: int) -> int:
    return number


@app.idempotent_task(key="pure:{name}:{number}", effects="none", queue="notifications")
def pure(ctx: TaskContext, name: str, number: int) -> int:
    return number


@app.idempotent_task(key="refused:{name}", effects="database", dead_letter=False)
def refused(ctx: TaskContext, name: str) -> None:
    raise PermanentError("no funds")


@app.idempotent_task(key="sum:{name}", effects="database")
def add_up(ctx: TaskContext, numbers: list[int], name: str) -> int:
    mark(name)
    return sum(numbers)


@app.task
def spread(name: str, count: int) -> str:
    """A task that sends a chord, with its own commit."""
    return str(chord((part.s(name, number) for number in range(count)), add_up.s(name)).delay().id)


@app.idempotent_task(key="fails:{name}", effects="database", dead_letter=False)
def spread_and_fail(ctx: TaskContext, name: str) -> None:
    """Nothing of its chord may ever be sent."""
    chord([echo.s(1)], gather.s(name)).delay()
    raise PermanentError("after all")
