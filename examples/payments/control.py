"""The same payments on plain Celery, written as most people write it: the control run of the demo.

Celery's own settings are left as they are: a task is acked before it runs, a publish is not confirmed, retries and
countdowns wait in a worker's memory. The code is careful where code of this kind usually is: it looks whether the
order was paid already before it pays, money and ledger share a transaction, and errors are retried three times.
"""

import os
from decimal import Decimal
from functools import cache
from typing import Any

from celery import Celery
from sqlalchemy import Engine, create_engine, text

from examples.payments.bank_client import charge

BROKER = "CONTROL_BROKER"
DATABASE = "CONTROL_DATABASE"
"""Environment variables that hold the URLs."""

SHOWN = (
    "task_acks_late",
    "task_reject_on_worker_lost",
    "task_publish_retry",
    "broker_transport_options",
    "worker_prefetch_multiplier",
    "task_serializer",
    "result_expires",
)

app = Celery("control")
app.conf.broker_url = os.environ.get(BROKER, "amqp://")
app.conf.result_backend = os.environ.get(DATABASE, "").replace("postgresql+", "db+postgresql+", 1) or None
app.conf.broker_connection_retry_on_startup = True


class NoFunds(Exception):
    """The account cannot pay."""


@cache
def engine() -> Engine:
    """This process's connections to the bank's database."""
    return create_engine(os.environ[DATABASE], pool_pre_ping=True)


@app.task(
    autoretry_for=(Exception,),
    dont_autoretry_for=(NoFunds,),
    max_retries=3,
    retry_backoff=True,
    name="control.pay_order",
)
def pay_order(
    order_id: str, account_id: str, bank_to: str, account_to: str, amount: str, purpose: str
) -> dict[str, Any]:
    """Pay the order unless it was paid, then have the bank told."""
    values = {"order": order_id, "account": account_id, "amount": Decimal(amount)}
    with engine().begin() as connection:
        if connection.execute(
            text("SELECT 1 FROM bank.ledger WHERE order_id = :order LIMIT 1"), values
        ).first():
            return {"order_id": order_id, "paid": "before"}
        debited = connection.execute(
            text(
                "UPDATE bank.accounts SET balance = balance - :amount "
                "WHERE account_id = :account AND balance >= :amount"
            ),
            values,
        )
        if debited.rowcount == 0:
            raise NoFunds(f"account {account_id} has no funds for {amount}")
        connection.execute(
            text(
                "INSERT INTO bank.ledger (order_id, account, side, amount) VALUES "
                "(:order, :account, 'debit', :amount), (:order, :clearing, 'credit', :amount)"
            ),
            {**values, "clearing": f"clearing:{bank_to}"},
        )
    notify.delay(order_id, bank_to, account_to, amount)
    return {"order_id": order_id, "paid": "now"}


@app.task(autoretry_for=(Exception,), max_retries=3, retry_backoff=True, name="control.notify")
def notify(order_id: str, bank_to: str, account_to: str, amount: str) -> dict[str, Any]:
    """Tell the receiving bank."""
    return {"charge": charge(f"notify:{order_id}", bank_to, account_to, Decimal(amount))}


def settings() -> dict[str, Any]:
    """The settings that decide about loss and duplication, as Celery has them."""
    return {
        **{name: app.conf[name] for name in SHOWN},
        "result_backend": "db+postgresql+psycopg2",
        "publisher_confirms": False,
        "queue": "classic, durable",
    }
