"""What the demo sends: the orders, how often each, and what is put among them to go wrong."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from examples.payments.orders import COLUMNS, Order, read_lines

MALFORMED = (
    "too;few;columns",
    "X1\t1\tYZ\t87144583\tmuch\tHH",
    "X2\t1\tYZ\t87144583\t-5.00\tHH",
    "\t1\tYZ\t87144583\t5.00\tHH",
    "X3\t1\tYZ\t87144583\t5.001\tHH",
)


@dataclass(frozen=True)
class Workload:
    """Everything that one run sends.

    Args:
        orders: each must be paid once; account and bank must agree in the end.
        copies: how often each order is sent, by order id.
        unfunded: orders of accounts that have no money; `funded_later` of them are funded and replayed.
        reused: ids of orders, sent again with another amount.
        bad_lines: the errors of the lines that are no orders.
        bank_plan: how the bank treats the first call with a key.
    """

    orders: tuple[Order, ...]
    copies: dict[str, int]
    unfunded: tuple[Order, ...]
    funded_later: tuple[Order, ...]
    reused: tuple[Order, ...]
    bad_lines: tuple[str, ...]
    bank_plan: dict[str, str]

    @property
    def deliveries(self) -> int:
        """How many messages the senders send for the orders."""
        return sum(self.copies.values())

    @property
    def amount(self) -> Decimal:
        """The sum of all orders."""
        return sum((order.amount for order in self.orders), Decimal(0))

    def planned(self, behaviour: str) -> int:
        """How many orders the bank treats so."""
        return Counter(self.bank_plan.values())[behaviour]

    def chunks(self, number: int) -> list[list[tuple[Order, int]]]:
        """The orders with their copies and the unfunded ones, in so many parts; the last part is not empty."""
        everything = [(order, self.copies[order.order_id]) for order in self.orders]
        step = max(1, len(everything) // max(1, len(self.unfunded)))
        for index, order in enumerate(self.unfunded):
            everything.insert(index * (step + 1), (order, 1))
        size = -(-len(everything) // number)
        return [everything[start : start + size] for start in range(0, len(everything), size)]


def make_workload(
    orders: Sequence[Order], seed: int, *, faults: bool, errors: Sequence[str] = ()
) -> Workload:
    """Choose copies and trouble for these orders; the same for a seed."""
    chance = random.Random(f"workload {seed}")
    share = max(2, len(orders) // 400)
    injected = read_lines(list(MALFORMED), "\t", "(injected)").errors
    unfunded = tuple(
        Order(f"U{number}", f"empty-{number}", "YZ", "87144583", Decimal(100 + number), "HH")
        for number in range(1, 2 * share + 1)
    )
    bank_plan = {}
    if faults:
        behaviours = (
            ["late"] * share
            + ["error"] * 2 * share
            + ["die"] * min(2, share)
            + ["blind"] * 2
            + ["closed"] * share
        )
        chosen = chance.sample(orders, min(len(behaviours), len(orders)))
        bank_plan = {order.key: what for order, what in zip(chosen, behaviours, strict=False)}
    reused = chance.sample(orders, min(share, len(orders)))
    return Workload(
        orders=tuple(orders),
        copies={order.order_id: chance.choices((1, 2, 3), (16, 3, 1))[0] for order in orders},
        unfunded=unfunded,
        funded_later=unfunded[:share],
        reused=tuple(replace(order, amount=order.amount + 1) for order in reused),
        bad_lines=(*errors, *(error.message for error in injected)),
        bank_plan=bank_plan,
    )


def as_fields(order: Order) -> list[str]:
    """An order as the texts that a publisher process is given."""
    return [str(getattr(order, column)) for column in COLUMNS]
