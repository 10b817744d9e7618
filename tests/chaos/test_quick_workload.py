"""All kinds of operations and every class of poison in one run; a worker dies meanwhile, and an operator replays."""

import os
import signal
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from tests.chaos.cells import LEASE_SECONDS, STALLED_SECONDS, WORKER
from tests.chaos.pooled import expect_green
from tests.chaos.provenance import SEED, provenance
from tests.chaos.running import HANGS_SECONDS, PATIENCE_SECONDS, Run
from tests.chaos.workload_plan import DATABASE_TASKS, LEASE, SHARES, plan
from tests.chaos.workload_poison import CLASSES
from tests.deployment import Deployment
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(HANGS_SECONDS)
COUNT = 320
MIX = {**SHARES, "poison": len(CLASSES) / COUNT, "charge": 0.02, "repeated": 0.06}
EVENTS = ("duplicate", "conflict", "retried", "dead", "replayed", "cancelled")
KILLED = "all processes of a worker are killed"
UNDER_WAY = 30


def sends() -> list[dict[str, Any]]:
    """About half of it poison, each class once."""
    return plan(SEED, COUNT, lease=LEASE_SECONDS, shares=MIX)


def test_the_workload_has_every_kind_of_operation_and_every_class_of_poison() -> None:
    sent = sends()
    assert {send["kind"] for send in sent} == {*SHARES, "transfer"}
    assert {send["name"] for send in sent if send["kind"] == "poison"} == set(CLASSES)


def test_nothing_is_lost_and_nothing_happens_twice_when_everything_comes_at_once(
    reliable_stack: Stack, deployment: Deployment
) -> None:
    with Run(deployment, sends(), **{LEASE: str(LEASE_SECONDS)}) as running:
        history = running.history
        history.say("run", cell="the whole workload", **provenance(SEED, reliable_stack))
        history.say("scheduled", fault=KILLED)
        history.say("expect", events=EVENTS)
        running.start_services()
        running.start_worker(WORKER, concurrency=4)
        running.start_producers()
        running.supervise()
        wait_until(lambda: _begun(running) >= UNDER_WAY, "work is under way", PATIENCE_SECONDS)
        worker = running.programs[WORKER].process
        assert worker is not None
        os.killpg(worker.pid, signal.SIGKILL)
        history.say("fired", fault=KILLED, inside=True)
        wait_until(running.all_sent, "everything is sent", PATIENCE_SECONDS)
        running.drain(STALLED_SECONDS)
        running.open_accounts()
        running.replay("--reason", "permanent", "--task", DATABASE_TASKS[0])
        running.drain(STALLED_SECONDS)
        expect_green("everything at once; " + KILLED, running.judge())


def _begun(running: Run) -> int:
    return sum(line["op"] == "begin" for line in running.history.lines())
