"""What a key may be made of, and which arguments are the payload that it stands for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from reliable_tasks.errors import ArgumentError
from reliable_tasks.model.retry import Effects
from reliable_tasks.worker.arguments import Arguments, fingerprint
from reliable_tasks.worker.options import TaskOptions


class Kind(Enum):
    CARD = "card"


@dataclass
class Order:
    number: str | None
    tags: Any = ()


def key(template: str, **arguments: Any) -> str:
    return TaskOptions(template, Effects.DATABASE).key_for(arguments)


@pytest.mark.parametrize(
    "value",
    [
        "7",
        7,
        1.5,
        Decimal("1.50"),
        True,
        b"x",
        Kind.CARD,
        UUID(int=7),
        datetime(2026, 1, 1, tzinfo=UTC),
        ["a", 1],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_key_is_made_as_format_would(value: Any) -> None:
    assert key("order:{it}", it=value) == f"order:{value}"
    assert key("order:{it!r:>9}", it=value) == f"order:{value!r:>9}"


@pytest.mark.parametrize(
    "value",
    [{"a", "b"}, frozenset("ab"), {"b": 1, "a": 2}, object(), ["a", {"b"}], Order("7", {"a"})],
    ids=["set", "frozenset", "two of a dict", "object", "set in a list", "set in a dataclass"],
)
def test_what_another_process_may_write_otherwise_is_no_key(value: Any) -> None:
    """A set's order depends on the process: the redelivery of a killed worker's message would be a new key."""
    with pytest.raises(ArgumentError, match="cannot be made of a"):
        key("order:{it}", it=value)


@pytest.mark.parametrize("nothing", [None, ""])
def test_two_orders_without_a_number_are_not_one(nothing: Any) -> None:
    with pytest.raises(ArgumentError, match="empty argument"):
        key("order:{it.number}", it=Order(nothing))
    with pytest.raises(ArgumentError, match="empty argument"):
        key("order:{it[number]}", it={"number": nothing})


def payload(function: Any, *args: Any, **kwargs: Any) -> bytes:
    arguments = Arguments(function, 1)
    return fingerprint("pay", arguments.told(arguments.bind(args, kwargs)))


def test_a_release_with_one_more_argument_does_not_make_conflicts_of_what_is_under_way() -> None:
    def before(ctx: Any, order: str) -> None: ...

    def after(
        ctx: Any, order: str, currency: str = "EUR", *more: str, fee: Decimal = Decimal("0.10")
    ) -> None: ...

    assert payload(before, "7") == payload(after, "7") == payload(after, "7", "EUR", fee="0.1")
    others = [payload(after, "7", "USD"), payload(after, "7", "EUR", "x"), payload(after, "7", fee="0.2")]
    assert len({payload(before, "7"), *others}) == 4


def test_a_default_of_none_needs_no_annotation_that_says_so() -> None:
    def pay(ctx: Any, order: str, note: str = None) -> None: ...  # noqa: RUF013 -- as many write it

    assert Arguments(pay, 1).bind(("7",), {}) == {"order": "7", "note": None}
    assert payload(pay, "7") == payload(pay, "7", None) != payload(pay, "7", "x")
