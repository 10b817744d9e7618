"""The demo, small: every order is paid once under faults, and its checks can fail."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection

from examples.payments import checks, ledger
from examples.payments.orders import generate, read_lines
from examples.payments.workload import Workload, make_workload

PROGRAM = Path(sys.executable).parent / "reliable-tasks"


def _demo(*options: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RELIABLE_TASKS_")}
    return subprocess.run(
        [PROGRAM, "demo", *options], capture_output=True, text=True, check=False, timeout=seconds, env=environ
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("installed_services")
def test_every_order_is_paid_once_under_faults() -> None:
    done = _demo("--count", "150", "--seed", "3", "--output", "json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["passed"] is True
    assert (report["orders"], report["effects"], report["lost"], report["double"]) == (150, 150, 0, 0)
    assert report["debits"] == report["credits"] == str(sum(order.amount for order in generate(150, 3)))
    assert report["deliveries"] > report["orders"]
    assert report["duplicates_suppressed"] > 0
    assert report["bank_charges_double"] == report["bank_charges_missing"] == 0
    assert report["conflicts"] == report["reused_keys"] > 0
    assert report["replayed"] > 0
    assert report["uncertain"] == 2
    assert report["unfunded"]["left_dead"] > 0
    assert sum(report["kills"].values()) >= 5
    assert report["restarts"]["broker"] == report["restarts"]["database"] == 1
    assert report["control"]["orders"] == 150
    assert report["control"]["settings"]["task_acks_late"] is False


def test_a_missing_order_file_is_one_clear_line(tmp_path: Path) -> None:
    done = _demo("--orders", str(tmp_path / "absent.tsv"))
    assert done.returncode != 0
    assert "RT105" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_malformed_lines_are_told_with_their_number() -> None:
    found = read_lines(["1,2,YZ,3,1.00,HH", "2,2,YZ,3,much,HH", "1,2,YZ,3,1.00,HH"], ",", "orders.csv")
    assert [order.amount for order in found.orders] == [Decimal("1.00")]
    assert [error.message.partition(":")[0] for error in found.errors] == [
        "orders.csv, line 3",
        "orders.csv, line 4",
    ]


@pytest.fixture
def books(empty_database: str) -> Iterator[Connection]:
    """The bank's tables, empty, in a transaction."""
    engine = sqlalchemy.create_engine(empty_database)
    with engine.begin() as connection:
        ledger.create(connection)
        yield connection
    engine.dispose()


def _book(connection: Connection, workload: Workload, log: Path, *, times: int = 1) -> None:
    for order in workload.orders * times:
        for account, side in ((order.account_id, "debit"), (f"clearing:{order.bank_to}", "credit")):
            connection.execute(
                sqlalchemy.text(
                    "INSERT INTO bank.ledger (order_id, account, side, amount) VALUES (:o, :a, :s, :m)"
                ),
                {"o": order.order_id, "a": account, "s": side, "m": order.amount},
            )
    log.write_text("".join(f"{order.key}\tC1\n" for order in workload.orders * times))


def _failures(
    connection: Connection, workload: Workload, log: Path, in_doubt: frozenset[str] = frozenset()
) -> list[str]:
    money = checks.money(connection, workload, log)
    recorded = checks.Deliveries(
        workload.deliveries,
        {},
        {"uncertain": workload.planned("blind")},
        {},
        len(workload.reused),
        0,
        0,
        in_doubt,
    )
    return [text for text in checks.failures(workload, money, recorded, 0, 0) if "funded" not in text]


def test_the_checks_pass_when_every_order_is_booked_once(books: Connection, tmp_path: Path) -> None:
    workload = make_workload(generate(20, 1), 1, faults=True)
    _book(books, workload, tmp_path / "charges.log")
    assert _failures(books, workload, tmp_path / "charges.log") == []


def test_the_checks_tell_a_lost_order_and_a_missing_charge(books: Connection, tmp_path: Path) -> None:
    workload = make_workload(generate(20, 1), 1, faults=True)
    log = tmp_path / "charges.log"
    _book(books, workload, log)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))
    books.exec_driver_sql("DELETE FROM bank.ledger WHERE order_id = '20002'")
    told = " ".join(_failures(books, workload, log))
    assert "1 orders lost: ('20002',)" in told
    assert "1 charges missing: ['20001']" in told
    assert "charges missing" not in " ".join(_failures(books, workload, log, frozenset({"notify:20001"})))


def test_the_checks_tell_a_double_payment_and_a_double_charge(books: Connection, tmp_path: Path) -> None:
    workload = make_workload(generate(20, 1), 1, faults=True)
    _book(books, workload, tmp_path / "charges.log", times=2)
    told = " ".join(_failures(books, workload, tmp_path / "charges.log"))
    assert "20 orders paid twice" in told
    assert "20 charges made twice" in told
