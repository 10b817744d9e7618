"""Each window, killed in and its answer lost, and the other ways to fail sampled: nothing lost, nothing twice."""

import pytest

from reliable_tasks.failpoints import WINDOWS
from tests.chaos.cells import OPERATOR, PRODUCER, SERVICES, WORKER, Cell, run
from tests.chaos.pooled import Verdicts, verdicts_of
from tests.chaos.running import HANGS_SECONDS

pytestmark = pytest.mark.timeout(HANGS_SECONDS)

PROGRAMS = {
    "pub": (PRODUCER,),
    "publish": (PRODUCER, SERVICES),
    "relay": (SERVICES,),
    "collector": (SERVICES,),
    "worker": (WORKER,),
    "ext": (WORKER,),
    "replay": (OPERATOR,),
}
"""Which programs pass the windows of this family."""

KILLED_AND_UNANSWERED = [
    Cell((f"{window}:kill", f"{window}:raise_after"), program)
    for window in WINDOWS
    for program in PROGRAMS[window.partition(".")[0]]
]
"""Each window: the first process that passes it dies there, the next one is not told what became of the step."""

OTHERWISE = [
    Cell(("pub.before_commit:raise", "pub.before_commit:reset:2"), PRODUCER),
    Cell(
        (
            "publish.before_confirm:raise",
            "publish.before_confirm:reset:2",
            "publish.after_confirm:stop(800):3",
        ),
        PRODUCER,
    ),
    Cell(
        ("publish.before_confirm:reset", "relay.before_mark:reset:2", "relay.after_confirm:raise:3"), SERVICES
    ),
    Cell(("relay.after_select:stop(1500)", "publish.before_confirm:sleep(500):3"), SERVICES),
    Cell(("collector.before_commit:raise", "collector.before_commit:reset:2"), SERVICES),
    Cell(("collector.after_commit_before_ack:stop(1500)",), SERVICES),
    Cell(("worker.after_verify:raise", "worker.after_claim:raise:2", "worker.after_effect:raise:3"), WORKER),
    Cell(("worker.before_commit:raise", "worker.before_commit:reset:3"), WORKER),
    Cell(("worker.after_claim:stop(2500)", "worker.before_commit:stop(2500):2"), WORKER),
    Cell(("worker.parent_before_settle:reset:3", "worker.parent_before_settle:raise:6"), WORKER),
    Cell(("worker.parent_after_settle:stop(1500):3", "worker.after_effect:sleep(500):2"), WORKER),
    Cell(("ext.after_call:raise",), WORKER),
    Cell(("ext.before_outcome_commit:reset",), WORKER),
    Cell(("ext.before_outcome_commit:raise",), WORKER),
    Cell(("ext.after_call:stop(2500)",), WORKER),
    Cell(("replay.after_intent:raise", "replay.after_intent:reset"), OPERATOR),
]
"""The other ways to fail, sampled."""


verdicts = verdicts_of(run)


@pytest.mark.parametrize("cell", [*KILLED_AND_UNANSWERED, *OTHERWISE], ids=str)
def test_nothing_is_lost_and_nothing_happens_twice_when(cell: Cell, verdicts: Verdicts[Cell]) -> None:
    verdicts.expect_green(cell)
