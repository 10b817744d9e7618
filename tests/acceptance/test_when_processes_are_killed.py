"""What may be lost or done twice when processes die: nothing."""

import json
from pathlib import Path

from tests.acceptance.payments import Bank
from tests.programs import kill

SEND = """
import json, os, sys
from decimal import Decimal
from tests.acceptance.bank_app import app, fail, pay
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
engine = create_engine(os.environ["RELIABLE_TASKS_DATABASE_URL"])
for order in json.loads(sys.argv[1]):
    with Session(engine) as session, session.begin():
        for _ in range(order.pop("times", 1)):
            task = fail if order.get("fail") else pay
            kwargs = {k: v for k, v in order.items() if k != "fail"}
            app.enqueue(session, task.s(**kwargs))
"""


def send(bank: Bank, orders: list[dict[str, object]]) -> None:
    """Enqueue orders in another process, each as often as it says."""
    sent = bank.around.python("-c", SEND, json.dumps(orders))
    assert sent.returncode == 0, sent.stderr


def test_a_pool_process_killed_in_mid_effect_pays_exactly_once(running_bank: Bank, tmp_path: Path) -> None:
    running_bank.worker("worker")
    running_bank.services()
    orders = [
        {"order_id": str(n), "account": str(n % 20 + 1), "amount": "1.25", "times": n % 3 + 1,
         "die_once": str(tmp_path / f"died-{n}") if n % 10 == 0 else ""}
        for n in range(40)
    ]  # fmt: skip
    send(running_bank, orders)
    running_bank.database.wait_for("SELECT count(*) FROM bank.effects", 40)
    running_bank.database.wait_for("SELECT count(*) FROM reliable_tasks.outbox", 0)
    running_bank.database.wait_for(
        "SELECT count(*) FROM reliable_tasks.results WHERE name LIKE '%.pay' AND state = 'enqueued'", 0
    )
    assert len(list(tmp_path.glob("died-*"))) == 4
    assert (
        running_bank.database.one(
            "SELECT count(*) FROM (SELECT 1 FROM bank.effects GROUP BY order_id HAVING count(*) > 1) d"
        )
        == 0
    )
    assert str(running_bank.database.one("SELECT sum(balance) FROM bank.accounts")) == "19950.00"
    running_bank.database.wait_for(
        "SELECT count(*) FROM reliable_tasks.results WHERE name LIKE '%.tell' AND state = 'succeeded'", 40
    )


def test_a_whole_worker_and_the_relay_killed_lose_and_double_nothing(running_bank: Bank) -> None:
    worker, services = running_bank.worker("first"), running_bank.services()
    send(running_bank, [{"order_id": str(n), "account": "1", "amount": "0.50"} for n in range(60)])
    running_bank.database.wait_for("SELECT count(*) > 5 FROM bank.effects", True)
    kill(worker)
    kill(services)
    running_bank.worker("second")
    running_bank.services()
    running_bank.database.wait_for("SELECT count(*) FROM bank.effects", 60)
    running_bank.database.wait_for(
        "SELECT count(*) FROM reliable_tasks.results WHERE name LIKE '%.pay' AND state <> 'succeeded'", 0
    )
    assert running_bank.database.one("SELECT count(DISTINCT order_id) FROM bank.effects") == 60
    assert (
        str(running_bank.database.one("SELECT balance FROM bank.accounts WHERE account_id = '1'")) == "970.00"
    )


def test_a_failing_task_is_tried_again_then_kept_as_dead_letter_and_leaves_no_effect(
    running_bank: Bank,
) -> None:
    running_bank.worker("worker")
    running_bank.services()
    send(running_bank, [{"fail": True, "order_id": "t"}, {"fail": True, "order_id": "p", "permanent": True}])
    running_bank.database.wait_for(
        "SELECT count(*) FROM reliable_tasks.dead_letters WHERE collected_at IS NOT NULL", 2
    )
    assert running_bank.database.one("SELECT count(*) FROM bank.effects") == 0
    assert (
        running_bank.database.one("SELECT count(*) FROM reliable_tasks.results WHERE name LIKE '%.tell'") == 0
    )
    assert (
        running_bank.database.one(
            "SELECT reason FROM reliable_tasks.dead_letters WHERE idempotency_key = 'fail:t'"
        )
        == "exhausted"
    )
    assert (
        running_bank.database.one(
            "SELECT count(*) FROM reliable_tasks.attempts WHERE idempotency_key = 'fail:t'"
        )
        == 3
    )
    assert (
        running_bank.database.one(
            "SELECT reason FROM reliable_tasks.dead_letters WHERE idempotency_key = 'fail:p'"
        )
        == "permanent"
    )
