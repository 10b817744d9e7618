"""One observation about a deployment, and what became of looking at a source."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from reliable_tasks.errors import ReliableTasksError

Verdict = Literal["kept", "lost", "unknown", "not kept", "info"]


@dataclass(frozen=True)
class Check:
    """What was looked at, for which guarantees it counts, what was seen and what to do about it.

    `lost` means the guarantee does not hold here; `unknown` that a source did not answer; `info` counts for none;
    `not kept` that nobody can have it in this version.
    """

    name: str
    guarantees: tuple[str, ...]
    verdict: Verdict
    evidence: str
    hint: str = ""


def judged(name: str, guarantees: str, kept: bool, evidence: str, hint: str = "") -> Check:
    """A check that is kept or lost; the guarantees as "G1 G4"."""
    return Check(name, tuple(guarantees.split()), "kept" if kept else "lost", evidence, "" if kept else hint)


def noted(name: str, evidence: str, hint: str = "") -> Check:
    """An observation that decides nothing."""
    return Check(name, (), "info", evidence, hint)


@contextmanager
def told_when_unreachable(found: list[Check], name: str, guarantees: str) -> Iterator[None]:
    """Let the examination go on when a source does not answer: one check says so."""
    try:
        yield
    except ReliableTasksError as error:
        evidence = f"{error.code}: {error.message}"
        found.append(Check(name, tuple(guarantees.split()), "unknown", evidence, error.hint))
