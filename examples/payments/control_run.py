"""The control run: the same orders and faults on plain Celery."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError

from examples.payments import checks, control, ledger
from examples.payments.deployment import Deployment, Sender, clean_environment
from examples.payments.driving import Say, send_under_faults, wait_quiet
from examples.payments.faults import Faults
from examples.payments.reliable_run import CONCURRENCY, WORKERS
from examples.payments.workload import Workload
from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack

NAME = "control"
STILL_POLLS = 6
"""So many looks without any change: what is lost leaves nothing behind that could be waited for."""


def run(
    stack: Stack, folder: Path, workload: Workload, seed: int, *, faults: bool, say: Say
) -> dict[str, Any]:
    """Do the run in a vhost and a database of its own; the answer is the report's `control`."""
    broker_url, database_url = stack.create_vhost(NAME), stack.create_database(NAME)
    environ = {**clean_environment(), control.BROKER: broker_url, control.DATABASE: database_url}
    engine = create_engine(database_url, pool_pre_ping=True)
    with engine.begin() as connection:
        ledger.create(connection)
        ledger.fund(connection, workload.orders, times=3)
    deployment = Deployment(folder, environ, _commands(), workload.bank_plan)
    sender = Sender("control", deployment.env, folder)
    done = Faults(deployment, stack, seed, say)
    busy = _Busy(Management(stack.management_url, broker_url), engine, deployment)
    try:
        deployment.start()
        send_under_faults(sender, workload, engine, done if faults else None, say)
        wait_quiet(busy, "orders", say)
        sender.send([(order, 1) for order in workload.reused])
        sender.wait()
        ended = wait_quiet(busy, "reused keys", say)
    finally:
        sender.close()
        deployment.stop()
    with engine.connect() as connection:
        money = checks.money(connection, workload, deployment.bank_folder / "charges.log")
        states = _states(connection)
    engine.dispose()
    return {
        "orders": len(workload.orders),
        "sent": workload.deliveries,
        "effects": money.effects,
        "lost": len(money.lost),
        "double": len(money.double),
        "debits": str(money.debits),
        "credits": str(money.credits),
        "bank_charges": money.bank_charges,
        "bank_charges_double": len(money.charges_double),
        "bank_charges_missing": len(money.charges_missing),
        "duplicates_suppressed": 0,
        "conflicts": 0,
        "dead_letters": 0,
        "replayed": 0,
        "uncertain": 0,
        "ended": ended,
        "failed_without_way_back": states.get("FAILURE", 0),
        "results": states,
        "kills": dict(done.kills),
        "restarts": {**done.restarts, **deployment.restarts},
        "settings": control.settings(),
    }


def _commands() -> dict[str, list[str]]:
    return {
        f"worker-{number}": [
            "celery", "-A", "examples.payments.control", "worker",
            "--concurrency", str(CONCURRENCY), "--hostname", f"worker-{number}@control", "--loglevel", "WARNING",
        ]
        for number in range(1, WORKERS + 1)
    }  # fmt: skip


class _Busy:
    """What is still under way, as far as anybody can tell."""

    def __init__(self, management: Management, engine: Engine, deployment: Deployment) -> None:
        self._management = management
        self._engine = engine
        self._log = deployment.bank_folder / "charges.log"
        self._last: Any = None
        self._still = 0

    def __call__(self) -> str:
        depths = self._management.depths().values()
        # Celery's own reply and event queues are not work
        queued = sum(depth.messages for depth in depths if depth.queue == "celery")
        with self._engine.connect() as connection:
            paid = ledger.paid_orders(connection)
            state = (queued, paid, _states(connection), self._log.stat().st_size if self._log.exists() else 0)
        self._still = self._still + 1 if state == self._last else 0
        self._last = state
        if queued or self._still < STILL_POLLS:
            charged = len(self._log.read_text().splitlines()) if self._log.exists() else 0
            return f"{paid} orders paid, {charged} told to the bank; {queued} messages in the queue"
        return ""


def _states(connection: Any) -> dict[str, int]:
    try:
        with connection.begin_nested():
            rows = connection.execute(text("SELECT status, count(*) FROM celery_taskmeta GROUP BY 1"))
            return {row[0]: row[1] for row in rows}
    except ProgrammingError:
        return {}  # Celery makes its table with the first result
