"""Payment orders: read from a tab- or comma-separated file, or made from a seed."""

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from reliable_tasks.errors import InputFileError

COLUMNS = ("order_id", "account_id", "bank_to", "account_to", "amount", "purpose")
BANKS = ("AB", "CD", "EF", "GH", "IJ", "KL", "MN", "OP", "QR", "ST", "UV", "WX", "YZ")
PURPOSES = ("HH", "LO", "IN", "LE", "")


@dataclass(frozen=True)
class Order:
    """One standing order; its id is its idempotency key."""

    order_id: str
    account_id: str
    bank_to: str
    account_to: str
    amount: Decimal
    purpose: str

    @property
    def key(self) -> str:
        """The key under which the receiving bank is called."""
        return f"notify:{self.order_id}"


@dataclass(frozen=True)
class OrderFile:
    """What a file held: orders, and for each line that is none, its error."""

    orders: tuple[Order, ...]
    errors: tuple[InputFileError, ...]


def read_orders(path: Path) -> OrderFile:
    """Read an order file with a header line.

    Raises:
        InputFileError: when it cannot be read or its header is another one.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputFileError(
            f"the order file {path} cannot be read: {reason}",
            hint="give a file with --orders, or leave it out",
        ) from error
    separator = "\t" if lines and "\t" in lines[0] else ","
    if not lines or tuple(lines[0].strip().split(separator)) != COLUMNS:
        raise InputFileError(
            f"the order file {path} does not begin with the header {', '.join(COLUMNS)}",
            hint="separate the columns with tabs or commas",
        )
    return read_lines(lines[1:], separator, str(path))


def read_lines(lines: list[str], separator: str, where: str, first_line: int = 2) -> OrderFile:
    """Read the lines after the header; a line that is no order becomes an error and the rest goes on."""
    orders: dict[str, Order] = {}
    errors = []
    for number, fields in enumerate(csv.reader(lines, delimiter=separator), first_line):
        try:
            order = parse(fields)
            if order.order_id in orders:
                raise ValueError(f"order {order.order_id} was there before")
        except ValueError as error:
            errors.append(
                InputFileError(f"{where}, line {number}: {error}", hint=f"a line is {', '.join(COLUMNS)}")
            )
        else:
            orders[order.order_id] = order
    return OrderFile(tuple(orders.values()), tuple(errors))


def parse(fields: list[str]) -> Order:
    """One line's fields as an order.

    Raises:
        ValueError: saying what is wrong with them.
    """
    if len(fields) != len(COLUMNS):
        raise ValueError(f"{len(fields)} columns instead of {len(COLUMNS)}")
    order_id, account_id, bank_to, account_to, amount, purpose = (field.strip() for field in fields)
    if not (order_id and account_id and account_to):
        raise ValueError("order_id, account_id or account_to is empty")
    if not (len(bank_to) == 2 and bank_to.isalpha()):
        raise ValueError(f"bank_to is {bank_to!r}, not two letters")
    try:
        money = Decimal(amount)
    except InvalidOperation:
        raise ValueError(f"amount is {amount!r}, not a number") from None
    if not money.is_finite() or money <= 0 or money != money.quantize(Decimal("0.01")):
        raise ValueError(f"amount is {amount!r}, not positive money with two places")
    return Order(order_id, account_id, bank_to, account_to, money.quantize(Decimal("0.01")), purpose)


def generate(count: int, seed: int) -> tuple[Order, ...]:
    """So many orders, always the same for a seed."""
    return tuple(_generated(count, random.Random(f"orders {seed}")))


def _generated(count: int, chance: random.Random) -> Iterator[Order]:
    for number in range(1, count + 1):
        yield Order(
            order_id=str(20000 + number),
            account_id=str(chance.randint(1, max(2, count // 2))),
            bank_to=chance.choice(BANKS),
            account_to=str(chance.randint(10_000_000, 99_999_999)),
            amount=Decimal(chance.randint(500, 200_000)) / 100,
            purpose=chance.choice(PURPOSES),
        )
