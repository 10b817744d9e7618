"""Which guarantees this deployment keeps, and how we know."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from reliable_tasks.broker.management import Management
from reliable_tasks.model.shape import Topology
from reliable_tasks.observe.broker_checks import broker_checks
from reliable_tasks.observe.checks import Check, Verdict, noted
from reliable_tasks.observe.database_checks import database_checks
from reliable_tasks.settings import Settings

PROMISES = {
    "G1": "Nothing accepted is lost.",
    "G2": "Every accepted task reaches exactly one end, or waits visibly.",
    "G3": "No effect twice.",
    "G4": "The result is durable before the message is acked.",
    "G5": "Every dead letter is kept, explained and replayable.",
    "G6": "History cannot be changed unseen.",
    "G7": "What is not guaranteed is said.",
}

NOT_IN_THIS_VERSION = {
    "G6": "sealing is not part of this version: who may write to the database can change history unseen",
}
"""Promises nobody can have yet; they are said not to be kept, and do not fail the examination."""

LIMITS = (
    "database effects are exactly once only in the database that holds our schema",
    "an external call that may have happened ends in `uncertain`, unless the task declares a Probe or CallAgain",
    "plain Celery tasks without an idempotency key run at least once",
)
"""True of every deployment, whatever its settings."""


@dataclass(frozen=True)
class Guarantee:
    """One promise, whether it holds here, and the evidence."""

    name: str
    promise: str
    verdict: Verdict
    required: bool
    evidence: str
    hint: str = ""


@dataclass(frozen=True)
class Examination:
    """All guarantees, and everything that was looked at."""

    guarantees: tuple[Guarantee, ...]
    checks: tuple[Check, ...]
    limits: tuple[str, ...] = LIMITS

    def having(self, verdict: Verdict) -> list[Guarantee]:
        """The required guarantees with this verdict."""
        return [each for each in self.guarantees if each.required and each.verdict == verdict]

    @property
    def healthy(self) -> bool:
        """Whether every required guarantee is known to be kept."""
        return all(each.verdict == "kept" for each in self.guarantees if each.required)


def examine(
    settings: Settings,
    topology: Topology,
    management: Callable[[], Management],
    differences: Callable[[], Sequence[str]],
) -> Examination:
    """Look at broker and database, changing nothing.

    Args:
        management: makes the management API's client; may raise what it raises.
        differences: what the topology plan would change, one line each.
    """
    return judge(
        [*broker_checks(topology, management, differences), *database_checks(settings), _signatures(settings)]
    )


def _signatures(settings: Settings) -> Check:
    signing = settings.signing
    if signing.mode == "off":
        return noted(
            "signatures",
            "off: whoever may publish to the broker can run every task with any arguments",
            "set RELIABLE_TASKS_SIGNING_KEYS for all who send and all who execute; docs/signing.md",
        )
    first, *others = (kid for kid, _ in signing.keys)
    evidence = f"{signing.mode}: signed with key {first}" + "".join(f", {kid} is accepted" for kid in others)
    if signing.mode == "accept-unsigned":
        return noted(
            "signatures",
            f"{evidence}; messages without a signature run, too",
            "unset RELIABLE_TASKS_SIGNING when no unsigned message waits",
        )
    return noted("signatures", f"{evidence}; all else is a dead letter")


def judge(checks: Iterable[Check]) -> Examination:
    """What the checks say about each promise: lost by one lost check, unknown by one unknown."""
    found = tuple(checks)
    return Examination(tuple(_guarantee(name, promise, found) for name, promise in PROMISES.items()), found)


def _guarantee(name: str, promise: str, checks: Sequence[Check]) -> Guarantee:
    if name in NOT_IN_THIS_VERSION:
        return Guarantee(name, promise, "not kept", False, NOT_IN_THIS_VERSION[name])
    if name == "G7":
        return Guarantee(name, promise, "kept", True, "this table, for the deployment that the settings name")
    mine = [check for check in checks if name in check.guarantees]
    worse: tuple[Verdict, ...] = ("lost", "unknown")
    for verdict in worse:
        bad = [check for check in mine if check.verdict == verdict]
        if bad:
            evidence = "; ".join(f"{check.name}: {check.evidence}" for check in bad)
            return Guarantee(name, promise, verdict, True, evidence, bad[0].hint)
    if not mine:
        return Guarantee(name, promise, "unknown", True, "nothing was looked at")
    evidence = "; ".join(f"{check.name}: {check.evidence}" for check in mine)
    return Guarantee(name, promise, "kept", True, evidence)
