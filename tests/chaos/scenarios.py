"""Small runs, each with one fault: the product must come out green, and the mutants that it is for must not."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from reliable_tasks.dev import Stack
from reliable_tasks.model.shape import Topology
from tests.chaos import scenario_faults as faults
from tests.chaos.mutants import MUTANT
from tests.chaos.provenance import provenance
from tests.chaos.running import Run
from tests.chaos.scenario_sends import (
    LEASE_SECONDS,
    SEED,
    Sends,
    around_a_pause,
    charged_twice,
    into_full_queues,
    only,
    second_later,
)
from tests.chaos.workload_plan import LEASE
from tests.deployment import Deployment
from tests.integration.applied_topology import TOPOLOGY

_FAILING = ("repeated", "reused", "unfunded", "flaky", "rolled_back")


@dataclass(frozen=True)
class Scenario:
    """What is sent, what is done meanwhile, and on which shape of the broker.

    Args:
        act: starts the programs, does the fault and ends it; the drain follows.
        events: what must have happened, or the run proves nothing.
        patience: seconds without any change after which nothing more is waited for of a mutant; longer than any pause
            of the product in this run: retries, busy keys, what the relay puts off, a pool that finds a process lost.
    """

    sends: Callable[[], Sends]
    act: Callable[[Run, Stack], None]
    events: tuple[str, ...] = ()
    lease: float = LEASE_SECONDS
    patience: float = 6.0


SCENARIOS = {
    "everything is sent twice and some fails": Scenario(
        lambda: only(*_FAILING, count=24),
        faults.no_fault,
        ("duplicate", "dead"),
    ),
    "a pool process is killed": Scenario(
        lambda: only("long", count=12), faults.kill_a_pool_process, patience=12.0
    ),
    "a process outlives its lease": Scenario(
        lambda: charged_twice(after=0.7), faults.outlive_the_lease, ("fenced", "takeover")
    ),
    "a worker's clock is ahead": Scenario(second_later, faults.clock_ahead, ("busy",), lease=3.0),
    "queues are full": Scenario(into_full_queues, faults.queues_full, ("refused",), patience=12.0),
    "bindings are gone": Scenario(lambda: only(count=12), faults.bindings_gone),
    "the broker stands still": Scenario(around_a_pause, faults.late_confirm, ("unknown",)),
    "dead-letter queues are gone": Scenario(
        lambda: only("unfunded", count=8), faults.dead_letter_queues_gone, ("dead",)
    ),
    "a commit is refused": Scenario(lambda: only("flaky", count=6), faults.refused_commit, ("dead",)),
    "a process is killed after its commit": Scenario(
        lambda: only(count=10), faults.killed_after_the_commit, ("redelivered",)
    ),
}

AT_MOST_ONCE = "dead_letters_at_most_once"


@dataclass(frozen=True)
class Proof:
    """A run of a scenario.

    Args:
        breaks: the promise that the mutant breaks there.
        mutant: empty for the product itself.
    """

    breaks: str
    scenario: str
    mutant: str = ""

    @property
    def of_the_product(self) -> "Proof":
        """The same fault without the bug."""
        return Proof("", self.scenario)

    def shape(self) -> Topology:
        """Of the broker; the twelfth mutant is a mistake in it."""
        if self.mutant != AT_MOST_ONCE:
            return TOPOLOGY
        queues = tuple(
            replace(queue, dead_letter=replace(queue.dead_letter, strategy="at-most-once"))
            for queue in TOPOLOGY.queues
        )
        return replace(TOPOLOGY, queues=queues)


def run(stack: Stack, proof: Proof, around: Deployment) -> dict[str, Any]:
    """The checker's verdict on one run, with the folder of what was said."""
    scenario = SCENARIOS[proof.scenario]
    code = {MUTANT: proof.mutant} if proof.mutant not in ("", AT_MOST_ONCE) else {}
    with Run(around, scenario.sends(), **{LEASE: str(scenario.lease), **code}) as running:
        said = {"scenario": proof.scenario, "mutant": proof.mutant}
        running.history.say("run", **said, **provenance(SEED, stack))
        running.history.say("expect", events=scenario.events)
        scenario.act(running, stack)
        running.wait_ready(faults.WORKER)
        if proof.mutant:
            running.drain(scenario.patience, limit_seconds=2 * scenario.patience)
        else:
            running.drain()  # has all the time it needs: only what is lost may turn it red
        return running.judge("--broker-seconds", "8")


PROOF = {
    mutant: Proof(breaks, scenario, mutant)
    for mutant, breaks, scenario in (
        ("ack_before_commit", "C1", "a pool process is killed"),
        ("no_unique_claim", "C2", "everything is sent twice and some fails"),
        ("no_fence", "C10", "a process outlives its lease"),
        ("takeover_by_the_workers_clock", "C10", "a worker's clock is ahead"),
        ("relay_deletes_before_the_confirm", "C1", "queues are full"),
        ("not_mandatory", "C1", "bindings are gone"),
        ("any_confirm", "C1", "the broker stands still"),
        (AT_MOST_ONCE, "C6", "dead-letter queues are gone"),
        ("retry_from_the_body", "C8", "a commit is refused"),
        ("attempt_in_a_second_transaction", "C8", "a process is killed after its commit"),
        ("continuation_before_the_commit", "C2", "everything is sent twice and some fails"),
        ("result_outside_the_transaction", "C5", "a process is killed after its commit"),
    )
}
"""Each mutant, the promise that it breaks, and the scenario that shows it."""

ALONE = ("any_confirm",)
"""Those whose fault stops the broker for everybody."""
