"""Idempotent tasks with database effects, and with none."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import text

from reliable_tasks import PermanentError, TaskContext, TransientError
from tests.integration.celery_behaviour.app_with_marks import QUICK, app, mark, wait_for
from tests.integration.celery_behaviour.plain_tasks import leave


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
