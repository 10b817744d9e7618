"""The run on reliable_tasks: deploy, send under faults, repair, replay, and count."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from sqlalchemy import Engine, text

from examples.payments import checks, ledger, queues
from examples.payments.deployment import Deployment, Sender, clean_environment
from examples.payments.driving import Say, send_under_faults, wait_quiet
from examples.payments.faults import Faults
from examples.payments.workload import Workload
from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.errors import ServiceStartError
from reliable_tasks.model.shape_loading import load_topology
from reliable_tasks.operate import dead_letters
from reliable_tasks.store.engine import create_engine

APP = "examples.payments.app:app"
TASK = "examples.payments.app.execute_order"
WORKERS = 2
CONCURRENCY = 2
OPERATOR = dead_letters.Operator("demo operator", "accounts were funded and the bank opened again")


def run(
    stack: Stack, folder: Path, workload: Workload, seed: int, *, faults: bool, say: Say
) -> dict[str, Any]:
    """Do the run; the answer holds every number of the report but those of the control."""
    environ = {**clean_environment(), **stack.environment(), "RELIABLE_TASKS_APP": APP}
    for words in (["db", "upgrade"], ["topology", "apply", "--yes"]):
        _cli(words, environ, folder)
    engine = create_engine(stack.database_url)
    with engine.begin() as connection:
        ledger.create(connection)
        ledger.fund(connection, workload.orders, times=3)
    deployment = Deployment(folder, environ, _commands(), workload.bank_plan)
    sender = Sender("reliable", deployment.env, folder)
    done = Faults(deployment, stack, seed, say)
    try:
        deployment.start()
        send_under_faults(sender, workload, engine, done if faults else None, say)
        busy = _Busy(stack, engine)
        wait_quiet(busy, "orders and notifications", say)
        say(f"  sending {len(workload.reused)} used keys again with another amount")
        sender.send([(order, 1) for order in workload.reused])
        sender.wait()
        wait_quiet(busy, "conflicts", say)
        replayed = _repair_and_replay(engine, deployment, workload, say)
        wait_quiet(busy, "replays", say)
    finally:
        sender.close()
        deployment.stop()
    try:
        return _count(engine, busy, deployment, workload, done, replayed)
    finally:
        engine.dispose()


def _commands() -> dict[str, list[str]]:
    commands = {
        f"worker-{number}": [
            "celery", "-A", "examples.payments.app", "worker",
            "--concurrency", str(CONCURRENCY), "--hostname", f"worker-{number}@demo", "--loglevel", "WARNING",
        ]
        for number in range(1, WORKERS + 1)
    }  # fmt: skip
    for loop in ("relay", "collector"):
        commands[loop] = ["reliable_tasks.cli.main", "services", "--only", loop]
    return commands


def _cli(words: list[str], environ: Mapping[str, str], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reliable_tasks.cli.main", *words],
        env=dict(environ),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceStartError(f"reliable-tasks {' '.join(words)} failed: {done.stderr.strip()}")


class _Busy:
    """What is still under way, in words."""

    def __init__(self, stack: Stack, engine: Engine) -> None:
        self._broker_url = stack.broker_url
        self._queues = list(Management(stack.management_url, stack.broker_url).depths())
        self._engine = engine
        self._delivered = -1

    def __call__(self) -> str:
        with self._engine.connect() as connection:
            waiting, outbox, delivered = connection.execute(text(_UNDER_WAY)).one()
            paid = ledger.paid_orders(connection)
        queued = self.queued()
        moving, self._delivered = delivered != self._delivered, delivered
        if not (waiting or outbox or queued or moving):
            return ""
        return f"{paid} orders paid; {queued} messages in queues, {outbox} in the outbox, {waiting} tasks waiting"

    def queued(self) -> int:
        """Messages that wait in all queues."""
        return queues.ready(self._broker_url, self._queues)


_UNDER_WAY = """
SELECT (SELECT count(*) FROM reliable_tasks.results WHERE state IN ('enqueued', 'running', 'retry_wait')),
       (SELECT count(*) FROM reliable_tasks.outbox),
       (SELECT count(*) FROM reliable_tasks.attempts) + (SELECT count(*) FROM reliable_tasks.suppressed_deliveries)
"""


def _repair_and_replay(engine: Engine, deployment: Deployment, workload: Workload, say: Say) -> int:
    with engine.begin() as connection:
        ledger.fund(connection, workload.funded_later, times=1)
    repair = Request(f"http://{deployment.bank_address}/repair", data=b"", method="POST")
    with urlopen(repair, timeout=10) as answer:
        answer.read()
    keys = {f"order:{order.order_id}" for order in workload.funded_later}
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT id, reason, idempotency_key FROM reliable_tasks.dead_letters WHERE state = 'open' ORDER BY id"
            )
        ).all()
    chosen = [row.id for row in rows if row.reason == "exhausted" or row.idempotency_key in keys]
    declared = {queue.name for queue in load_topology("topology:TOPOLOGY").queues}
    known = dead_letters.Known(queue=declared.__contains__)
    outcomes = [item.outcome for item in dead_letters.replay(engine, chosen, OPERATOR, known)]
    say(f"  {len(rows)} dead letters; {outcomes.count('replayed')} replayed after the repair")
    return outcomes.count("replayed")


def _count(
    engine: Engine, busy: _Busy, deployment: Deployment, workload: Workload, done: Faults, replayed: int
) -> dict[str, Any]:
    with engine.connect() as connection:
        money = checks.money(connection, workload, deployment.bank_folder / "charges.log")
        recorded = checks.deliveries(connection, TASK)
    failures = checks.failures(workload, money, recorded, busy.queued(), replayed)
    return {
        "orders": len(workload.orders),
        "sent": workload.deliveries,
        "deliveries": recorded.total,
        "effects": money.effects,
        "duplicates_suppressed": recorded.suppressed.get("duplicate", 0)
        + recorded.suppressed.get("redelivered", 0),
        "suppressed": recorded.suppressed,
        "conflicts": recorded.conflicts,
        "dead_letters": sum(recorded.dead_letters.values()),
        "dead_letters_by_reason": recorded.dead_letters,
        "replayed": recorded.resolved,
        "uncertain": recorded.states.get("uncertain", 0),
        "lost": len(money.lost),
        "double": len(money.double),
        "debits": str(money.debits),
        "credits": str(money.credits),
        "bank_charges": money.bank_charges,
        "bank_charges_double": len(money.charges_double),
        "bank_charges_missing": len(money.charges_missing),
        "bad_lines": len(workload.bad_lines),
        "unfunded": {
            "sent": len(workload.unfunded),
            "funded_and_paid": money.unfunded_paid,
            "left_dead": len(workload.unfunded) - money.unfunded_paid,
        },
        "reused_keys": len(workload.reused),
        "kills": dict(done.kills),
        "restarts": {**done.restarts, **deployment.restarts},
        "failures": failures,
        "passed": not failures,
    }
