"""The application of the acceptance tests: its own effects are deliberately unprotected, so that a double one shows."""

import os
import signal
from decimal import Decimal
from pathlib import Path

from sqlalchemy import text

from reliable_tasks import CallAgain, PermanentError, ReliableCelery, Retry, TaskContext, TransientError

app = ReliableCelery("acceptance", topology="topology:TOPOLOGY")


@app.idempotent_task(
    key="pay:{order_id}", effects="database", queue="payments", retry=Retry(base_seconds=0.1)
)
def pay(ctx: TaskContext, order_id: str, account: str, amount: Decimal, die_once: str = "") -> str:
    """Debit an account and note the effect; `die_once` names a file whose creation marks the one death."""
    ctx.session.execute(
        text("UPDATE bank.accounts SET balance = balance - :amount WHERE account_id = :account"),
        {"amount": amount, "account": account},
    )
    ctx.session.execute(
        text("INSERT INTO bank.effects (order_id, amount) VALUES (:order, :amount)"),
        {"order": order_id, "amount": amount},
    )
    if die_once and not Path(die_once).exists():
        Path(die_once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    ctx.enqueue(tell.s(order_id))
    return order_id


@app.idempotent_task(
    key="tell:{order_id}", effects="external", queue="notifications", on_uncertain=CallAgain()
)
def tell(ctx: TaskContext, order_id: str) -> str:
    """Stands for a call to another system that knows our key."""
    return ctx.idempotency_key


@app.idempotent_task(
    key="fail:{order_id}",
    effects="database",
    queue="payments",
    retry=Retry(max_attempts=3, base_seconds=0.05),
)
def fail(ctx: TaskContext, order_id: str, permanent: bool = False) -> None:
    """Writes, then fails: nothing of it may stay."""
    ctx.session.execute(
        text("INSERT INTO bank.effects (order_id, amount) VALUES (:order, 1)"), {"order": order_id}
    )
    ctx.enqueue(tell.s(f"never-{order_id}"))
    raise PermanentError("refused") if permanent else TransientError("try again")
