"""Values that travel: money, days, moments, ids, enumerations, dataclasses; and those that do not."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from reliable_tasks.errors import ArgumentError

SECONDS = 20
DAY, MOMENT = date(2026, 2, 28), datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)
UID = UUID("0190a5f0-0000-7000-8000-000000000001")


def test_types_survive_the_round_trip(tasks: Any, unique: str) -> None:
    order = tasks.Order("7", Decimal("0.10"), DAY)
    sent = tasks.types.delay(unique, Decimal("12.30"), DAY, MOMENT, UID, tasks.Kind.URGENT, order)
    found = sent.get(timeout=SECONDS)
    assert found["kinds"] == ["Decimal", "date", "datetime", "UUID", "Kind", "Order", "Decimal", "date"]
    assert (found["amount"], found["day"], found["moment"], found["uid"]) == (
        Decimal("12.30"),
        DAY,
        MOMENT,
        UID,
    )
    assert str(found["amount"]) == "12.30"
    assert found["kind"] == "urgent"
    assert found["order"] == {"number": "7", "amount": Decimal("0.10"), "due": DAY}


def test_a_float_is_never_money(tasks: Any, unique: str) -> None:
    with pytest.raises(ArgumentError, match="float"):
        tasks.pay.delay(unique, 1.1)


def test_nor_inside_a_list(tasks: Any, unique: str) -> None:
    assert tasks.add_up.delay(unique, [Decimal("0.1"), Decimal("0.2")]).get(timeout=SECONDS) == Decimal("0.3")
    with pytest.raises(ArgumentError, match="float"):
        tasks.add_up.delay(unique, [Decimal("0.1"), 0.2])


def test_nor_inside_a_dataclass(tasks: Any, unique: str) -> None:
    order = tasks.Order("7", 0.1, DAY)
    with pytest.raises(ArgumentError, match="float"):
        tasks.types.delay(unique, Decimal(1), DAY, MOMENT, UID, tasks.Kind.URGENT, order)


def test_arguments_that_do_not_fit_are_refused_before_they_are_sent(tasks: Any, unique: str) -> None:
    with pytest.raises(ArgumentError, match="missing"):
        tasks.pay.delay()
    with pytest.raises(ArgumentError, match="date"):
        tasks.types.delay(
            unique, Decimal(1), "no day", MOMENT, UID, tasks.Kind.URGENT, tasks.Order("7", Decimal(1), DAY)
        )


def test_a_float_that_arrives_by_name_is_a_dead_letter(tasks: Any, database: Any, unique: str) -> None:
    sent = tasks.app.send_task(tasks.pay.name, (unique, 1.1))
    with pytest.raises(Exception, match="float"):
        sent.get(timeout=SECONDS)
    assert database.dead_letter(sent.id)["reason"] == "undecodable"
    assert database.effects(unique) == 0


def test_a_nul_character_does_not_stop_the_worker(tasks: Any, unique: str) -> None:
    assert tasks.echo.delay(f"{unique}\0").get(timeout=SECONDS) == f"{unique}\0"
