"""Payments from accounts that may be empty."""

from decimal import Decimal
from pathlib import Path
from threading import Event

from sqlalchemy import text

from reliable_tasks import PermanentError, ReliableCelery, TaskContext

app = ReliableCelery("replays", topology="topology:TOPOLOGY")


@app.idempotent_task(key="pay:{order_id}", effects="database", queue="payments")
def pay(ctx: TaskContext, order_id: str, account: str, amount: Decimal) -> str:
    """Debit an account; each order writes one effect."""
    paid = ctx.session.execute(
        text(
            "UPDATE accounts SET balance = balance - :amount WHERE id = :id AND balance >= :amount RETURNING 1"
        ),
        {"amount": amount, "id": account},
    ).one_or_none()
    if paid is None:
        raise PermanentError(f"account {account} has no funds for {amount}")
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": order_id})
    return order_id


@app.idempotent_task(key="call:{order_id}", effects="external", queue="notifications")
def call(ctx: TaskContext, order_id: str) -> None:
    """A call whose end nobody knows."""
    raise ConnectionError("the line went dead")


@app.task(queue="default")
def plain(account: str) -> None:
    """A plain Celery task that fails."""
    raise ValueError(f"[red]{account}[/red] is not valid")


@app.task(queue="default")
def slow(gate: str) -> None:
    """Runs until a file is there."""
    _wait_for(Path(gate))


@app.idempotent_task(key="slow:{order_id}", effects="database", queue="payments")
def slow_pay(ctx: TaskContext, order_id: str, gate: str) -> None:
    """Writes its effect, then waits for a file before it commits."""
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": order_id})
    Path(f"{gate}.begun").touch()
    _wait_for(Path(gate))


def _wait_for(gate: Path) -> None:
    never = Event()
    while not gate.exists():
        never.wait(0.02)
