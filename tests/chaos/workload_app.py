"""The application of the chaos tests: transfers whose own effect is deliberately unprotected, and charges outside."""

import http.client
import json
import os
import signal
import time
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import create_engine, text

from reliable_tasks import (
    CallAgain,
    PermanentError,
    Probe,
    ReliableCelery,
    Retry,
    TaskContext,
    TransientError,
)
from reliable_tasks.worker.execution import current_execution
from tests.chaos import clock, mutants
from tests.chaos.history import HISTORY, History
from tests.chaos.workload_plan import LEASE

BANK = "CHAOS_BANK"
"""Environment variable: host:port of the bank."""

BANK_SECONDS = 20.0

app = ReliableCelery("chaos", topology="topology:TOPOLOGY")
# ten seconds by default, which a run with many killed processes would do little else than wait
app.conf.worker_lost_wait = 1.0
_lease = timedelta(seconds=float(os.environ.get(LEASE, "2")))
_patient = Retry(max_attempts=30, base_seconds=0.05, max_seconds=2.0)


@app.idempotent_task(
    key="transfer:{tid}", effects="database", queue="payments", retry=_patient, max_crashes=20
)
def transfer(
    ctx: TaskContext,
    tid: str,
    source: str,
    target: str,
    amount: int,
    fails: int = 0,
    pause: float = 0.0,
    receipted: bool = True,
) -> dict[str, Any]:
    """Move money and note it, with nothing that would stop a second time; a receipt follows, sent first of all."""
    _begin(ctx)
    if receipted:
        ctx.enqueue(receipt.s(tid))
    if ctx.task.request.retries < fails:
        raise TransientError(f"one of {fails} attempts that fail")
    closed = ctx.session.execute(text("SELECT 1 FROM bank.closed WHERE account_id = :id"), {"id": source})
    if closed.one_or_none() is not None:
        raise PermanentError(f"account {source} is closed")
    _book(ctx, {source: -amount, target: amount})
    _note(ctx, source=source, target=target, amount=amount)
    if pause:
        time.sleep(pause)  # a task that is long
    return {"tid": tid, "source": source, "target": target, "amount": amount}


@app.idempotent_task(
    key="receipt:{tid}", effects="database", queue="notifications", retry=_patient, max_crashes=20, batch=8
)
def receipt(ctx: TaskContext, tid: str) -> dict[str, Any]:
    """What a transfer sends: an effect of its own, which moves nothing, and shares a commit with others."""
    _begin(ctx)
    _note(ctx, source="", target="", amount=0)
    return {"tid": tid, "source": "", "target": "", "amount": 0}


@app.idempotent_task(key="price:{tid}", effects="none", queue="payments", retry=_patient, max_crashes=20)
def price(ctx: TaskContext, tid: str, amount: int, fails: int = 0) -> dict[str, Any]:
    """What something would cost: no effect at all, so a worker executes it ahead of its claim, beside others."""
    _begin(ctx)
    if ctx.task.request.retries < fails:
        raise TransientError(f"one of {fails} attempts that fail")
    return {"tid": tid, "source": "", "target": "", "amount": amount}


def ask_bank(idempotency_key: str, **_arguments: Any) -> Any:
    """Whether the bank has charged; with the fence of who asks, so that older executions cannot charge any more."""
    execution = current_execution.get()
    assert execution is not None
    status, answer = _call("GET", idempotency_key, execution.owned.fence, None)
    return {"charge": answer} if status == 200 else Probe.NOT_DONE


@app.idempotent_task(
    key="charge:{tid}", effects="external", queue="notifications", lease=_lease, retry=_patient,
    on_uncertain=Probe(ask_bank), max_crashes=20,
)  # fmt: skip
def charge(
    ctx: TaskContext, tid: str, amount: int, before: float = 0.0, after: float = 0.0, answer: str = "ok"
) -> dict[str, Any]:
    """A charge at a bank that charges on every call, and can be asked."""
    return _charge(ctx, "POST", amount, before, after, answer)


@app.idempotent_task(
    key="known:{tid}", effects="external", queue="notifications", lease=_lease, retry=_patient,
    on_uncertain=CallAgain(), max_crashes=20,
)  # fmt: skip
def charge_known(
    ctx: TaskContext, tid: str, amount: int, before: float = 0.0, after: float = 0.0, answer: str = "ok"
) -> dict[str, Any]:
    """A charge at a bank that knows our keys."""
    return _charge(ctx, "PUT", amount, before, after, answer)


@app.idempotent_task(
    key="blind:{tid}", effects="external", queue="notifications", lease=_lease, retry=_patient, max_crashes=20
)
def charge_blind(
    ctx: TaskContext, tid: str, amount: int, before: float = 0.0, after: float = 0.0, answer: str = "ok"
) -> dict[str, Any]:
    """A charge at a bank that cannot be asked: in doubt it ends as uncertain."""
    return _charge(ctx, "POST", amount, before, after, answer)


@app.idempotent_task(key="crash:{tid}", effects="database", queue="payments", max_crashes=1)
def crash(ctx: TaskContext, tid: str, mark: str) -> None:
    """Kills every process that executes it."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.idempotent_task(key="{order}", effects="database", queue="payments")
def pay(ctx: TaskContext, order: str, amount: Decimal = Decimal(1)) -> dict[str, Any]:
    """What poison is sent to: nothing of it may ever run, or it leaves an effect."""
    _begin(ctx)
    _note(ctx, source="", target="", amount=0)
    return {"tid": order, "source": "", "target": "", "amount": 0}


@app.task
def note(value: Any) -> Any:
    """What poison for Celery's own tasks is sent to."""
    return value


@cache
def _history(pid: int) -> History:
    """Of this process: the file stays open."""
    return History(Path(os.environ[HISTORY]), f"worker {pid}")


def _begin(ctx: TaskContext, lease_until: float | None = None) -> None:
    _history(os.getpid()).say(
        "begin",
        id=ctx.task_id,
        key=ctx.idempotency_key,
        fence=ctx.fence,
        attempt=ctx.attempt,
        retries=ctx.task.request.retries,
        redelivered=bool((ctx.task.request.delivery_info or {}).get("redelivered")),
        lease_until=lease_until,
        pid=os.getpid(),
    )


def _book(ctx: TaskContext, moved: dict[str, int]) -> None:
    """Change balances, in the order of the accounts' names, or two transfers could wait for each other."""
    for account, amount in sorted(moved.items()):
        found = ctx.session.execute(
            text(
                "UPDATE bank.accounts SET balance = balance + :amount "
                "WHERE account_id = :account AND balance + :amount >= 0"
            ),
            {"account": account, "amount": amount},
        )
        if found.rowcount != 1:
            raise PermanentError(f"account {account} has no funds for {-amount}")


def _note(ctx: TaskContext, **moved: Any) -> None:
    ctx.session.execute(
        text(
            "INSERT INTO bank.effect_log (key, task_id, source, target, amount) "
            "VALUES (:key, :id, :source, :target, :amount)"
        ),
        {"key": ctx.idempotency_key, "id": ctx.task_id, **moved},
    )


def _charge(
    ctx: TaskContext, method: str, amount: int, before: float, after: float, answer: str
) -> dict[str, Any]:
    engine = create_engine(os.environ["RELIABLE_TASKS_DATABASE_URL"])
    with engine.connect() as connection:
        until = connection.execute(
            text(
                "SELECT extract(epoch FROM lease_until) FROM reliable_tasks.claims "
                "WHERE task_name = :name AND key = :key AND fence = :fence"
            ),
            {"name": ctx.task.name, "key": ctx.idempotency_key, "fence": ctx.fence},
        ).scalar_one_or_none()  # none: it was overtaken before it came here
    engine.dispose()
    _begin(ctx, None if until is None else float(until))
    call = {"amount": amount, "fence": ctx.fence, "before": before, "after": after, "answer": answer}
    status, said = _call(method, ctx.idempotency_key, ctx.fence, call)
    if status != 200:
        raise OSError(f"the bank answered {status}: {said}")
    return {"charge": said}


def _call(method: str, key: str, fence: int, call: dict[str, Any] | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(os.environ[BANK], timeout=BANK_SECONDS)
    try:
        body = None if call is None else json.dumps(call)
        connection.request(method, f"/charges/{quote(key, safe='')}", body, {"X-Fence": str(fence)})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


mutants.install()
clock.put_off()
