"""The payments application: orders move money in a double-entry ledger, then the receiving bank is told."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from reliable_tasks import CallAgain, PermanentError, ReliableCelery, Retry, TaskContext

app = ReliableCelery("payments", topology="topology:TOPOLOGY")


@app.idempotent_task(key="order:{order_id}", effects="database", queue="payments", retry=Retry(base_seconds=0.2))
def execute_order(
    ctx: TaskContext, order_id: str, account_id: str, bank_to: str, account_to: str, amount: Decimal, purpose: str
) -> dict[str, Any]:
    """Debit the account and credit the receiving bank's clearing account, once per order."""
    paid = ctx.session.execute(
        text(
            "UPDATE bank.accounts SET balance = balance - :amount "
            "WHERE account_id = :account AND balance >= :amount RETURNING balance"
        ),
        {"account": account_id, "amount": amount},
    ).one_or_none()
    if paid is None:
        raise PermanentError(f"account {account_id} has no funds for {amount}")
    ctx.session.execute(
        text(
            "INSERT INTO bank.ledger (order_id, account, side, amount) VALUES "
            "(:order, :account, 'debit', :amount), (:order, :clearing, 'credit', :amount)"
        ),
        {"order": order_id, "account": account_id, "clearing": f"clearing:{bank_to}", "amount": amount},
    )
    return {"order_id": order_id, "amount": amount}


LEASE = timedelta(seconds=5)
ASK_AGAIN = CallAgain()
