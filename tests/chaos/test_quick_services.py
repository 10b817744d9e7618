"""The broker or the database dies for everybody, while work is under way and more is sent; each test has both alone."""

from pathlib import Path

import pytest

from reliable_tasks.dev import Stack
from tests.chaos.acts import LATE, Act, run
from tests.chaos.cells import WORKER
from tests.chaos.pooled import expect_green
from tests.chaos.running import HANGS_SECONDS, PATIENCE_SECONDS, Run
from tests.chaos.wires import Wires
from tests.deployment import new_deployment
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(HANGS_SECONDS)


@pytest.mark.parametrize("service", ["broker", "database"])
def test_nothing_is_lost_and_nothing_happens_twice_when_a_service_is_killed(
    reliable_stack: Stack, migrated_template: str, tmp_path: Path, service: str
) -> None:
    def kill(running: Run, _wires: Wires) -> None:
        victim = reliable_stack.broker if service == "broker" else reliable_stack.database
        victim.kill()
        running.history.say("gate", name=LATE)
        wait_until(lambda: _not_accepted(running), "a sender is refused", PATIENCE_SECONDS)
        victim.start()

    around = new_deployment(reliable_stack, migrated_template, tmp_path)
    act = Act(f"the {service} is killed", WORKER, do=kill)
    expect_green(act.name, run(reliable_stack, act, around))


def _not_accepted(running: Run) -> bool:
    return any(
        line["op"] == "send" and line["phase"] in ("fail", "unknown") for line in running.history.lines()
    )
