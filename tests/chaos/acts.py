"""Cells of the quick tier whose fault comes from outside a program: its wires are cut, its processes are stopped."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from reliable_tasks.dev import Stack
from tests.chaos.cells import (
    KINDS,
    LEASE_SECONDS,
    PRODUCER,
    STALLED_SECONDS,
    armed,
    small_plan,
    start,
)
from tests.chaos.faults import Fault
from tests.chaos.provenance import SEED, provenance
from tests.chaos.running import PATIENCE_SECONDS, Run
from tests.chaos.wires import Wires, wires
from tests.chaos.workload_plan import LEASE
from tests.deployment import Deployment
from tests.waiting import wait_until

LATE = "late"
"""The gate of what is sent when the fault is there."""


@dataclass(frozen=True)
class Act:
    """A fault from outside.

    Args:
        name: what happens, as a sentence.
        program: which one has its wires through the proxies.
        broker, database: the faults of these wires.
        do: what is done when work is under way and something is still to be sent; what it has cut is healed after it.
        failpoint: of the program.
        insist: whether senders send again what they do not know the end of.
        events: what must have come of it, by the checker's counters.
    """

    name: str
    program: str
    broker: tuple[Fault, ...] = ()
    database: tuple[Fault, ...] = ()
    do: Callable[[Run, Wires], None] | None = None
    failpoint: str = ""
    insist: bool = True
    events: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def seed(self) -> int:
        """Of this act's workload and jitter."""
        return SEED * 1000 + zlib.crc32(self.name.encode()) % 1000

    def sends(self) -> list[dict[str, Any]]:
        """A small plan, the last third of it behind the gate when there is something to do before."""
        chosen = small_plan(self.seed, KINDS)
        if not self.insist:
            chosen = [{**send, "insist": False} for send in chosen]
        late = len(chosen) * 2 // 3 if self.do is not None else len(chosen)
        return [*chosen[:late], *({**send, "gate": LATE} for send in chosen[late:])]


def run(stack: Stack, act: Act, around: Deployment) -> dict[str, Any]:
    """Do it, heal, come to rest; the checker's verdict, with the folder of what was said."""
    with (
        wires(around, act.seed) as through,
        Run(around, act.sends(), **{LEASE: str(LEASE_SECONDS)}) as running,
    ):
        running.history.say("run", cell=act.name, **provenance(act.seed, stack))
        running.history.say("scheduled", fault=act.name)
        running.history.say("expect", events=act.events)
        faults = [through.broker.when(replace(fault)) for fault in act.broker]
        faults += [through.database.when(replace(fault)) for fault in act.database]
        start(running, act.program, {**through.environment, **armed(running, act.failpoint)})
        if act.do is not None:
            wait_until(lambda: _under_way(running), "work is under way", PATIENCE_SECONDS)
            act.do(running, through)
            running.history.say("gate", name=LATE)
        wait_until(lambda: all(fault.fired.is_set() for fault in faults), f"{faults} fire", PATIENCE_SECONDS)
        running.history.say("fired", fault=act.name, inside=True)
        if act.program == PRODUCER:
            # healed at once, it would not have noticed
            wait_until(running.all_sent, "everything is sent", PATIENCE_SECONDS)
        for wire in (through.broker, through.database):
            wire.heal()
        wait_until(running.all_sent, "everything is sent", PATIENCE_SECONDS)
        running.drain(STALLED_SECONDS)
        return running.judge()


def _under_way(running: Run) -> bool:
    return any(line["op"] == "begin" for line in running.history.lines())
