"""A sender in a process of its own: reads chunks of orders from stdin, says on stdout when one is accepted.

A chunk is one line of JSON: a list of [fields of the order, copies]. What is not accepted is sent again until it is.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from sqlalchemy.orm import Session

from examples.payments.orders import Order, parse
from reliable_tasks.store.engine import create_engine

BATCH = 50
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.2


class ReliableSender:
    """Sends a part in transactions, as a web request would, and the others directly with a confirm."""

    def __init__(self) -> None:
        module = import_module("examples.payments.app")
        self._app = module.app
        self._task = module.execute_order
        self._engine = create_engine(self._app.runtime.settings.database.url_text())

    def send(self, orders: Sequence[Order]) -> None:
        """Have all of them accepted."""
        middle = len(orders) // 2
        for start in range(0, middle, BATCH):
            _until_accepted(self._in_transaction, orders[start : min(start + BATCH, middle)])
        for order in orders[middle:]:
            _until_accepted(self._directly, order)

    def _in_transaction(self, orders: Sequence[Order]) -> None:
        with Session(self._engine) as session, session.begin():
            for order in orders:
                self._app.enqueue(session, self._task.s(*_arguments(order)))

    def _directly(self, order: Order) -> None:
        self._task.apply_async(_arguments(order))


class ControlSender:
    """Sends as a plain Celery application does."""

    def __init__(self) -> None:
        self._task = import_module("examples.payments.control").pay_order

    def send(self, orders: Sequence[Order]) -> None:
        """Have all of them sent."""
        for order in orders:
            fields = _arguments(order)
            _until_accepted(lambda fields: self._task.delay(*fields[:4], str(fields[4]), fields[5]), fields)


def _arguments(order: Order) -> list[Any]:
    return [
        order.order_id,
        order.account_id,
        order.bank_to,
        order.account_to,
        order.amount,
        order.purpose,
    ]


def _until_accepted(send: Callable[[Any], object], what: Any) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            send(what)
            return
        except Exception as error:
            if time.monotonic() > give_up:
                raise
            sys.stderr.write(f"sent again after {type(error).__name__}: {error}\n")
            time.sleep(PAUSE_SECONDS)  # the broker that refused it may be starting again


def main() -> None:
    """Send chunk after chunk."""
    sender = ReliableSender() if sys.argv[1] == "reliable" else ControlSender()
    for line in sys.stdin:
        chunk = json.loads(line)
        copies = [parse(fields) for fields, count in chunk for _ in range(count)]
        sender.send(copies)
        sys.stdout.write(f"{len(copies)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
