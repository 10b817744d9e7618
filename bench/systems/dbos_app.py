"""DBOS: workflows from a queue, in Postgres. Run as a module it is the worker."""

import os
import signal
import threading
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, SQLAlchemyDatasource

from bench import bank
from bench.system import database_url

_CONFIG = {
    "name": "bench",
    "system_database_url": database_url(),
    "application_version": "1",
    "log_level": "ERROR",
    "executor_id": f"worker-{os.environ.get('BENCH_WORKER', '0')}",
    "sys_db_pool_size": 20,
    "max_executor_threads": 4,
}
_ISOLATION = os.environ.get("BENCH_ISOLATION", "READ COMMITTED")
_source: Any = None


@DBOS.workflow(name="work")
def work(serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task."""
    return {"account": account, "amount": amount, "ok": True}


@DBOS.step(name="one_step")
def one_step(account: int, amount: int) -> dict[str, Any]:
    """The step of `work_step`."""
    return {"account": account, "amount": amount, "ok": True}


@DBOS.workflow(name="work_step")
def work_step(serial: int, account: int, amount: int) -> Any:
    """The small task with a step, whose result is kept, too."""
    return one_step(account, amount)


def _effect(serial: int, source: int, target: int, amount: int) -> dict[str, Any]:
    session, key = _source.sql_session(), f"transfer:{serial}"
    for change, account in bank.changes(source, target, amount):
        session.execute(
            sa.text("UPDATE accounts SET balance = balance + :change WHERE id = :id"),
            {"change": change, "id": account},
        )
    session.execute(
        sa.text("INSERT INTO ledger (key, source, target, amount) VALUES (:key, :source, :target, :amount)"),
        {"key": key, "source": source, "target": target, "amount": amount},
    )
    if bank.sends(serial):
        session.execute(
            sa.text("INSERT INTO hand_outbox (key, body) VALUES (:key, CAST(:body AS jsonb))"),
            {"key": key, "body": '{"notify": true}'},
        )
    return {"source": source, "target": target, "amount": amount}


@DBOS.workflow(name="transfer")
def transfer(serial: int, source: int, target: int, amount: int) -> Any:
    """DBOS's exactly-once step: its checkpoint commits with the effect."""
    options = {"name": "effect", "isolation_level": _ISOLATION}
    return _source.run_tx_step(options, _effect, serial, source, target, amount)


def main() -> None:
    """Work until SIGTERM."""
    global _source
    DBOS(config=_CONFIG)
    if os.environ.get("BENCH_BANK"):
        _source = SQLAlchemyDatasource.create(database_url(), engine_kwargs={"pool_size": 16})
    DBOS.listen_queues(["bench"])
    DBOS.launch()
    DBOS.register_queue(
        "bench", worker_concurrency=100, polling_interval_sec=float(os.environ.get("BENCH_POLL", "0.05"))
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    DBOS.destroy()


if __name__ == "__main__":
    main()
