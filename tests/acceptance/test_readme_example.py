"""The example in the README runs as it stands there."""

import re
from pathlib import Path

from tests.acceptance.payments import Bank
from tests.programs import ROOT

SEND = """
from decimal import Decimal
from bank import execute_order
first = execute_order.delay('7', 'alice', Decimal('12.30'))
assert first.get(timeout=30)['paid'] == Decimal('12.30')
again = execute_order.delay('7', 'alice', Decimal('12.30'))
assert again.get(timeout=30)['paid'] == Decimal('12.30')
poor = execute_order.delay('8', 'bob', Decimal('12.30'))
assert poor.get(timeout=30, propagate=False) and poor.status == 'FAILURE'
"""


def test_the_ten_lines_pay_once_and_keep_the_unfunded_order(running_bank: Bank, tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "bank.py").write_text(example.group(1))
    database = running_bank.database
    database.rows("CREATE TABLE accounts (id text PRIMARY KEY, balance numeric(20, 2) NOT NULL)")
    database.rows("INSERT INTO accounts VALUES ('alice', 20.00), ('bob', 1.00)")
    running_bank.worker("readme", application="bank", PYTHONPATH=str(tmp_path))
    sent = running_bank.around.python("-c", SEND, PYTHONPATH=str(tmp_path))
    assert sent.returncode == 0, sent.stderr
    assert str(database.one("SELECT balance FROM accounts WHERE id = 'alice'")) == "7.70"
    assert str(database.one("SELECT balance FROM accounts WHERE id = 'bob'")) == "1.00"
    assert database.one("SELECT reason FROM reliable_tasks.dead_letters") == "permanent"
