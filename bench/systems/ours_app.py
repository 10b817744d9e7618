"""Our application under measurement: nothing but what any user writes."""

import os
from typing import Any

from celery import signals
from sqlalchemy import text

from bench import bank
from bench.systems.ours_topology import TOPOLOGY
from reliable_tasks import ReliableCelery, TaskContext

app = ReliableCelery("bench", topology=TOPOLOGY)

_UPDATE = text("UPDATE accounts SET balance = balance + :change WHERE id = :account")
_LEDGER = text("INSERT INTO ledger (key, source, target, amount) VALUES (:key, :source, :target, :amount)")


@app.idempotent_task(key="none:{serial}", effects="none", queue="pure")
def work_none(ctx: TaskContext, serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task, as a pure function."""
    return {"account": account, "amount": amount, "ok": True}


@app.idempotent_task(key="watched:{serial}", effects="none", queue="pure")
def work_watched(ctx: TaskContext, serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task, where Celery's signals have receivers, so that its whole tracer runs."""
    return {"account": account, "amount": amount, "ok": True}


@app.idempotent_task(key="database:{serial}", effects="database", queue="bench")
def work_database(ctx: TaskContext, serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task, as one that could write."""
    return {"account": account, "amount": amount, "ok": True}


@app.idempotent_task(key="external:{serial}", effects="external", queue="bench")
def work_external(ctx: TaskContext, serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task, as one that could call another system."""
    return {"account": account, "amount": amount, "ok": True}


@app.task(name="bench.sum", queue="bench")
def total(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)


@app.idempotent_task(key="number:{n}", effects="none", queue="pure")
def number(ctx: TaskContext, n: int) -> int:
    """A part of a chord's header."""
    return n


@app.idempotent_task(key="notice:{serial}", effects="none", queue="notices")
def notice(ctx: TaskContext, serial: int) -> None:
    """What every tenth transfer sends; nobody relays or executes it while transfers are measured."""


def _by_cursor(ctx: TaskContext, serial: int, source: int, target: int, amount: int) -> dict[str, Any]:
    with ctx.cursor() as cursor:
        for change in bank.changes(source, target, amount):
            cursor.execute(bank.UPDATE, change)
        cursor.execute(bank.LEDGER, (ctx.idempotency_key, source, target, amount))
    return _done(ctx, serial, source, target, amount)


def _by_session(ctx: TaskContext, serial: int, source: int, target: int, amount: int) -> dict[str, Any]:
    for change, account in bank.changes(source, target, amount):
        ctx.session.execute(_UPDATE, {"change": change, "account": account})
    ctx.session.execute(
        _LEDGER, {"key": ctx.idempotency_key, "source": source, "target": target, "amount": amount}
    )
    return _done(ctx, serial, source, target, amount)


def _done(ctx: TaskContext, serial: int, source: int, target: int, amount: int) -> dict[str, Any]:
    if bank.sends(serial):
        ctx.enqueue(notice.s(serial))
    return {"source": source, "target": target, "amount": amount}


def _declared(function: Any, name: str, **options: Any) -> Any:
    return app.idempotent_task(
        key="transfer:{serial}", effects="database", queue="bench", name=f"bench.{name}", **options
    )(function)


transfer = _declared(_by_cursor, "transfer")
transfer_batched = _declared(_by_cursor, "transfer_batched", batch=10)
transfer_session = _declared(_by_session, "transfer_session")
transfer_session_batched = _declared(_by_session, "transfer_session_batched", batch=10)


def _watch(**_told: Any) -> None:
    """What looks on."""


if os.environ.get("BENCH_WATCHED"):
    for signal in (signals.task_prerun, signals.task_postrun, signals.task_success):
        signal.connect(_watch)
