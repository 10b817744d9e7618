"""Cells of the quick tier: a failpoint in one program, a small workload around it, healing, the checker's verdict."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reliable_tasks.dev import Stack
from reliable_tasks.failpoints import MARKS_VARIABLE, VARIABLE, parse
from tests.chaos.provenance import SEED, provenance
from tests.chaos.running import APP, PATIENCE_SECONDS, Run
from tests.chaos.workload_plan import LEASE, SHARES, plan
from tests.chaos.workload_tables import CLOSED
from tests.deployment import Deployment
from tests.waiting import wait_until

PRODUCER, SERVICES, WORKER, OPERATOR = "producer-0", "services", "worker-1", "operator"
KINDS = ("repeated", "charge", "charge_known", "flaky", "closed")
"""Of each window something: sent twice, called outside, tried again, dead; the rest are plain transfers."""

COUNT = 10
LEASE_SECONDS = 1.0
STALLED_SECONDS = 60.0
_MARKS = "marks"


@dataclass(frozen=True)
class Cell:
    """Failpoints, and which program has them.

    Args:
        failpoints: each as RELIABLE_TASKS_FAILPOINT takes it; of those for the same passing the first one fires, and
            the next one when the program passes there again.
    """

    failpoints: tuple[str, ...]
    program: str

    def __str__(self) -> str:
        return f"{' '.join(self.failpoints)} in {self.program}"

    @property
    def seed(self) -> int:
        """Of this cell's workload: another one for each, the same one each time."""
        return SEED * 1000 + zlib.crc32(str(self).encode()) % 1000


def armed(running: Run, *failpoints: str) -> dict[str, str]:
    """The variables of a program that has these failpoints, each to fire once in this run."""
    folder = running.folder / _MARKS
    folder.mkdir(exist_ok=True)
    given = ",".join(one for one in failpoints if one)
    return {VARIABLE: given, MARKS_VARIABLE: str(folder)} if given else {}


def marks(running: Run) -> dict[str, str]:
    """The failpoints that have fired, and what they said."""
    return {path.name: path.read_text() for path in (running.folder / _MARKS).iterdir()}


def small_plan(seed: int, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """A few sends, alternately through the outbox and directly, so that both ways are passed."""
    chosen = plan(seed, COUNT, leave_out=tuple(set(SHARES) - set(kinds)), lease=LEASE_SECONDS)
    return [_more_dead({**send, "via": ("direct", "enqueue")[n % 2]}) for n, send in enumerate(chosen)]


def run(stack: Stack, cell: Cell, around: Deployment) -> dict[str, Any]:
    """Let the failpoint fire, heal, come to rest; the checker's verdict, with the folder of what was said."""
    with Run(around, small_plan(cell.seed, KINDS), **{LEASE: str(LEASE_SECONDS)}) as running:
        running.history.say("run", cell=str(cell), **provenance(cell.seed, stack))
        for failpoint in cell.failpoints:
            running.history.say("scheduled", fault=failpoint)
        variables = armed(running, *cell.failpoints)
        start(running, cell.program, variables)
        wait_until(running.all_sent, "everything is sent", PATIENCE_SECONDS)
        if cell.program == OPERATOR:
            running.drain(STALLED_SECONDS)
            _replay(running, variables, len(cell.failpoints))
        wait_until(lambda: len(marks(running)) == len(cell.failpoints), f"{cell} fires", PATIENCE_SECONDS)
        for failpoint in cell.failpoints:
            told = marks(running)[str(parse(failpoint)[0])]
            running.history.say("fired", fault=failpoint, inside=True, mark=told)
        running.drain(STALLED_SECONDS)
        return running.judge()


def _more_dead(send: dict[str, Any]) -> dict[str, Any]:
    """Every third plain transfer is from a closed account, so that there is more than one dead letter."""
    if send["kind"] != "transfer" or send["n"] % 3:
        return send
    closed = {"source": CLOSED[0]}
    return {**send, **closed, "kind": "closed", "kwargs": {**send["kwargs"], **closed}}


def start(running: Run, program: str, variables: dict[str, str], *, per_second: float = 1000.0) -> None:
    """All programs, one of them with variables of its own; whatever ends is started again."""
    of: Callable[[str], Any] = lambda name: variables if name == program else {}  # noqa: E731
    running.start(SERVICES, ["reliable_tasks.cli.main", "services", "-A", f"{APP}:app"], **of(SERVICES))
    running.start_worker(WORKER, **of(WORKER))
    running.start_producers(per_second, **of(PRODUCER))
    running.supervise()


def _replay(running: Run, variables: dict[str, str], times: int) -> None:
    """An operator replays what is dead, after its cause is gone; and again, as often as it fails."""
    running.open_accounts()
    for last in (*[False] * times, True):
        done = running.replay("--all", **variables)
        assert bool(done.returncode) is not last, done.stderr
