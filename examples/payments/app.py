"""The payments application: orders move money in a double-entry ledger, then the receiving bank is told."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from examples.payments.bank_client import BankUnclear, ask, charge
from reliable_tasks import PermanentError, Probe, ReliableCelery, Retry, TaskContext

app = ReliableCelery("payments", topology="topology:TOPOLOGY")


@app.idempotent_task(
    key="order:{order_id}", effects="database", queue="payments", retry=Retry(base_seconds=0.2)
)
def execute_order(
    ctx: TaskContext,
    order_id: str,
    account_id: str,
    bank_to: str,
    account_to: str,
    amount: Decimal,
    purpose: str,
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
    ctx.enqueue(notify_bank.s(order_id, bank_to, account_to, amount))
    return {"order_id": order_id, "amount": amount}


def ask_bank(idempotency_key: str, **_arguments: Any) -> Any:
    """Whether the bank has made the charge with this key; it can also say that it does not know."""
    charged = ask(idempotency_key)
    if charged is None:
        return Probe.UNKNOWN
    return {"charge": charged} if charged else Probe.NOT_DONE


@app.idempotent_task(
    key="notify:{order_id}",
    effects="external",
    queue="notifications",
    on_uncertain=Probe(ask_bank),
    lease=timedelta(seconds=3),
    retry=Retry(max_attempts=6, base_seconds=0.25, max_seconds=4, transient=(BankUnclear,)),
)
def notify_bank(
    ctx: TaskContext, order_id: str, bank_to: str, account_to: str, amount: Decimal
) -> dict[str, Any]:
    """Tell the receiving bank, which charges each call anew: it must be called once."""
    return {"charge": charge(ctx.idempotency_key, bank_to, account_to, amount)}
