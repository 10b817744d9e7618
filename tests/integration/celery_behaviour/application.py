"""The application whose worker the tests run: plain Celery tasks and idempotent ones."""

import os
import signal
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from sqlalchemy import text

from reliable_tasks import (
    CallAgain,
    PermanentError,
    Probe,
    ReliableCelery,
    Retry,
    TaskContext,
    TransientError,
)

REMOTE_CONTROL = os.environ.get("BEHAVIOUR_REMOTE_CONTROL", "1") == "1"
PLACE = Path(os.environ.get("BEHAVIOUR_PLACE", "."))
"""Where tasks leave marks that tests wait for: what happened outside the database."""

app = ReliableCelery("behaviour", topology="topology:TOPOLOGY", remote_control=REMOTE_CONTROL)
app.conf.beat_schedule = {
    "tick": {
        "task": "behaviour.tick",
        "schedule": 0.5,
        "args": ("beat",),
        "options": {"queue": "notifications"},
    }
}
QUICK = Retry(max_attempts=3, base_seconds=0.05, jitter=0)


def mark(name: str) -> int:
    """Append a line to a file; returns how many there are now."""
    with (PLACE / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len((PLACE / name).read_text().splitlines())


def wait_for(name: str, seconds: float = 30) -> None:
    """Until a test has made this file."""
    deadline = time.monotonic() + seconds
    while not (PLACE / name).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def echo(value: Any) -> Any:
    return value


@app.task(name="behaviour.tick")
def tick(name: str) -> int:
    return mark(f"tick-{name}")


@app.task
def leave(name: str, *_more: Any) -> str:
    mark(name)
    return name


@app.task
def hold(name: str) -> str:
    mark(f"{name}-began")
    wait_for(f"{name}-go")
    mark(f"{name}-ended")
    return name


@app.task
def fail(message: str) -> None:
    raise ValueError(message)


@app.task
def heard(failed_id: str, name: str) -> str:
    mark(name)
    return failed_id


@app.task(bind=True)
def who(self: Any) -> dict[str, Any]:
    return {
        "id": self.request.id,
        "name": self.name,
        "priority": self.request.rt_priority,
        "retries": self.request.retries,
    }


@app.task(bind=True, autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0.05, max_retries=3)
def unsteady(self: Any, name: str, failures: int) -> int:
    if mark(name) <= failures:
        raise OSError("not yet")
    return int(self.request.retries)


@app.task(bind=True, max_retries=2)
def tries(self: Any, name: str) -> None:
    mark(name)
    raise self.retry(exc=LookupError("never"), countdown=0.05)


@app.task(bind=True)
def progress(self: Any, name: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 3})
    wait_for(f"{name}-go")
    return "all"


@app.task(bind=True)
def where(self: Any, name: str) -> list[Any]:
    if mark(name) == 1:
        raise self.retry(countdown=0.05)
    return [2, self.request.rt_priority, self.request.delivery_info["routing_key"]]


@app.task(bind=True)
def replaced(self: Any, x: int, y: int) -> None:
    raise self.replace(add.s(x, y))


@app.task
def reject(message: str) -> None:
    raise Reject(message, requeue=False)


@app.task(rate_limit="20/s")
def limited(x: int) -> int:
    return x


@app.task
def die(name: str) -> None:
    mark(name)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def fail_until(name: str) -> str:
    if not (PLACE / f"{name}-good").exists():
        raise ValueError("not good yet")
    return name


@app.task(ignore_result=True)
def quiet(name: str) -> str:
    mark(name)
    return "not kept"


@app.task(soft_time_limit=1, time_limit=30)
def soft(name: str) -> str:
    try:
        wait_for(f"{name}-never")
    except SoftTimeLimitExceeded:
        return "stopped softly"
    return "not stopped"


@app.task(time_limit=1)
def hard(name: str) -> None:
    mark(f"{name}-began")
    wait_for(f"{name}-never")


@shared_task(name="behaviour.shared")
def shared(x: int) -> int:
    return x * 2


class Kind(Enum):
    URGENT = "urgent"
    BATCH = "batch"


@dataclass
class Order:
    number: str
    amount: Decimal
    due: date


@app.idempotent_task(key="types:{case}", effects="none")
def types(
    ctx: TaskContext,
    case: str,
    amount: Decimal,
    day: date,
    moment: datetime,
    uid: UUID,
    kind: Kind,
    order: Order,
) -> dict[str, Any]:
    kinds = [
        type(value).__name__ for value in (amount, day, moment, uid, kind, order, order.amount, order.due)
    ]
    return {
        "kinds": kinds,
        "amount": amount,
        "day": day,
        "moment": moment,
        "uid": uid,
        "kind": kind,
        "order": order,
    }


@app.idempotent_task(key="sum:{case}", effects="none")
def add_up(ctx: TaskContext, case: str, amounts: list[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


@app.idempotent_task(key="pay:{order}", effects="database", retry=QUICK)
def pay(ctx: TaskContext, order: str, amount: Decimal = Decimal(1)) -> dict[str, Any]:
    _effect(ctx, order)
    return {"order": order, "amount": amount}


def _effect(ctx: TaskContext, key: str) -> None:
    ctx.session.execute(
        text("INSERT INTO effects (key, attempt) VALUES (:k, :a)"), {"k": key, "a": ctx.attempt}
    )


@app.idempotent_task(key="hold:{order}", effects="database", retry=QUICK)
def pay_slowly(ctx: TaskContext, order: str) -> str:
    _effect(ctx, order)
    mark(f"{order}-began")
    wait_for(f"{order}-go")
    return order


@app.idempotent_task(key="hard:{order}", effects="database", time_limit=1)
def pay_too_slowly(ctx: TaskContext, order: str) -> None:
    _effect(ctx, order)
    mark(f"{order}-began")
    wait_for(f"{order}-never")


@app.idempotent_task(key="flaky:{order}", effects="database", retry=QUICK)
def pay_at_last(ctx: TaskContext, order: str, failures: int) -> int:
    _effect(ctx, order)
    ctx.enqueue(leave.s(f"{order}-sent"))
    leave.delay(f"{order}-sent")
    if mark(order) <= failures:
        raise TransientError("not yet")
    return ctx.attempt


@app.idempotent_task(key="bound:{order}", effects="database", bind=True, retry=QUICK)
def pay_bound(self: Any, ctx: TaskContext, order: str) -> list[Any]:
    _effect(ctx, order)
    if mark(order) == 1:
        raise self.retry(countdown=0.05)
    return [self.name, self.request.id, ctx.attempt]


@app.idempotent_task(key="part:{order}{number}", effects="database")
def pay_parts(ctx: TaskContext, order: str, number: int) -> list[str]:
    _effect(ctx, f"{order}{number}")
    return [f"{order}{number}", *(pay_parts(order, number - 1) if number else [])]


@app.idempotent_task(key="where:{order}", effects="database", bind=True, retry=QUICK)
def where_once(self: Any, ctx: TaskContext, order: str) -> list[Any]:
    if mark(order) == 1:
        raise TransientError("not yet")
    return [ctx.attempt, self.request.rt_priority, self.request.delivery_info["routing_key"]]


@app.idempotent_task(key="never:{order}", effects="database", retry=QUICK)
def refuse(ctx: TaskContext, order: str) -> None:
    _effect(ctx, order)
    raise PermanentError("no funds")


@app.idempotent_task(key="failed:{order}", effects="database", dead_letter=False)
def refuse_quietly(ctx: TaskContext, order: str) -> None:
    raise PermanentError("no funds")


def call(name: str, mishap: str) -> str:
    """The other side: counts its calls, and lets the first one end as `mishap` says."""
    count = mark(f"{name}-called")
    if count > 1 or mishap == "none":
        return f"call {count}"
    if mishap == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if mishap == "hold":
        mark(f"{name}-began")
        wait_for(f"{name}-go")
    if mishap == "transient":
        raise TransientError("refused the connection")
    raise RuntimeError("the line was cut")


def ask(key: str, *, name: str, mishap: str) -> Any:
    mark(f"{name}-asked")
    answer = (PLACE / f"{name}-answer").read_text()
    return {"done": {"found": key}, "not": Probe.NOT_DONE, "unknown": Probe.UNKNOWN}[answer]


LEASE = timedelta(seconds=2)


@app.idempotent_task(key="tell:{name}", effects="external", retry=QUICK, lease=LEASE)
def tell(ctx: TaskContext, name: str, mishap: str) -> str:
    return call(name, mishap)


@app.idempotent_task(
    key="asked:{name}", effects="external", retry=QUICK, lease=LEASE, on_uncertain=Probe(ask)
)
def tell_and_ask(ctx: TaskContext, name: str, mishap: str) -> str:
    return call(name, mishap)


@app.idempotent_task(
    key="again:{name}", effects="external", retry=QUICK, lease=LEASE, on_uncertain=CallAgain()
)
def tell_again(ctx: TaskContext, name: str, mishap: str) -> str:
    return call(name, mishap)
