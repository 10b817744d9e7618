"""The example in the README runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from tests.acceptance.payments import ROOT, Bank


def test_the_ten_lines_pay_once_and_keep_the_unfunded_order(running_bank: Bank, tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "bank.py").write_text(example.group(1))
    environ = {"PYTHONPATH": str(tmp_path), "RELIABLE_TASKS_APP": "bank:app"}
    with running_bank.engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE accounts (id text PRIMARY KEY, balance numeric(20, 2) NOT NULL)")
        )
        connection.execute(text("INSERT INTO accounts VALUES ('alice', 20.00), ('bob', 1.00)"))
    running_bank.start("celery", "-A", "bank", "worker", "--concurrency", "1", **environ)
    send = (
        "from decimal import Decimal; from bank import execute_order\n"
        "first = execute_order.delay('7', 'alice', Decimal('12.30'))\n"
        "assert first.get(timeout=30)['paid'] == Decimal('12.30')\n"
        "again = execute_order.delay('7', 'alice', Decimal('12.30'))\n"
        "assert again.get(timeout=30)['paid'] == Decimal('12.30')\n"
        "poor = execute_order.delay('8', 'bob', Decimal('12.30'))\n"
        "assert poor.get(timeout=30, propagate=False) and poor.status == 'FAILURE'\n"
    )
    subprocess.run(
        [sys.executable, "-c", send],
        cwd=ROOT,
        env={**running_bank.environ, **environ},
        check=True,
        timeout=90,
    )
    assert str(running_bank.one("SELECT balance FROM accounts WHERE id = 'alice'")) == "7.70"
    assert str(running_bank.one("SELECT balance FROM accounts WHERE id = 'bob'")) == "1.00"
    assert running_bank.one("SELECT reason FROM reliable_tasks.dead_letters") == "permanent"
