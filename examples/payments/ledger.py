"""The bank's own tables: accounts and a double-entry ledger.

Nothing in them protects an order from being paid twice, on purpose: a double payment must be able to show.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from examples.payments.orders import Order

_TABLES = """
CREATE SCHEMA IF NOT EXISTS bank;
CREATE TABLE IF NOT EXISTS bank.accounts (
    account_id text PRIMARY KEY,
    balance numeric(20, 2) NOT NULL CHECK (balance >= 0)
);
CREATE TABLE IF NOT EXISTS bank.ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id text NOT NULL,
    account text NOT NULL,
    side text NOT NULL CHECK (side IN ('debit', 'credit')),
    amount numeric(20, 2) NOT NULL CHECK (amount > 0),
    booked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS ledger_order_id ON bank.ledger (order_id);
"""


def create(connection: Connection) -> None:
    """Make the tables."""
    connection.exec_driver_sql(_TABLES)


def fund(connection: Connection, orders: Iterable[Order], times: int) -> None:
    """Put `times` the sum of its orders on each account: enough for payments that should not happen to show."""
    sums: dict[str, Decimal] = {}
    for order in orders:
        sums[order.account_id] = sums.get(order.account_id, Decimal(0)) + order.amount
    rows = [{"account": account, "amount": amount * times} for account, amount in sums.items()]
    if rows:
        connection.execute(
            text(
                "INSERT INTO bank.accounts VALUES (:account, :amount) "
                "ON CONFLICT (account_id) DO UPDATE SET balance = bank.accounts.balance + excluded.balance"
            ),
            rows,
        )


def entries(connection: Connection) -> dict[str, dict[str, Any]]:
    """Per order: how many debits and credits there are, and their sums."""
    query = (
        "SELECT order_id, "
        "count(*) FILTER (WHERE side = 'debit') AS debits, count(*) FILTER (WHERE side = 'credit') AS credits, "
        "coalesce(sum(amount) FILTER (WHERE side = 'debit'), 0) AS debited, "
        "coalesce(sum(amount) FILTER (WHERE side = 'credit'), 0) AS credited "
        "FROM bank.ledger GROUP BY order_id"
    )
    return {row["order_id"]: dict(row) for row in connection.execute(text(query)).mappings()}


def paid_orders(connection: Connection) -> int:
    """How many debits the ledger holds; to show progress, so without looking for those of the same order."""
    return int(connection.execute(text("SELECT count(*) / 2 FROM bank.ledger")).scalar_one())
