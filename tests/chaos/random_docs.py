"""Writes what was recorded into docs/reliability.md, between its marks, so that the page holds no invented number."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.chaos.checker import CHECKS, oracle_can_fail, recovered
from tests.chaos.mutants import MUTANTS
from tests.chaos.random_results import HEAD, rows, sent_rows
from tests.chaos.scenarios import PROOF
from tests.programs import ROOT

PAGE = ROOT / "docs" / "reliability.md"
_AT_MOST_ONCE = (
    "The dead-letter queues are given what died at most once: the broker forgets what they did not take."
)


def write(rounds: list[dict[str, Any]]) -> None:
    """Bring the page up to date."""
    text = PAGE.read_text()
    for name, made in parts(rounds).items():
        text = replaced(text, name, made)
    PAGE.write_text(text)


def parts(rounds: list[dict[str, Any]]) -> dict[str, str]:
    """The generated parts of the page, by the names of their marks."""
    return {"invariants": invariants(), "mutants": mutants(), "figures": figures(rounds)}


def replaced(text: str, name: str, made: str) -> str:
    """The page with another text between the marks of this name."""
    begin, end = f"<!-- {name}: written by `make chaos-docs` -->", f"<!-- end of {name} -->"
    before, _begin, rest = text.partition(begin)
    _old, _end, after = rest.partition(end)
    assert _begin
    assert _end
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"


def invariants() -> str:
    """What the checker decides, in its own words."""
    checks: dict[str, Callable[..., Any]] = {**CHECKS, "C11": recovered, "C13": oracle_can_fail}
    ordered = sorted(checks.items(), key=lambda item: int(item[0][1:]))
    lines = [(name, (check.__doc__ or "").partition(": ")[2]) for name, check in ordered]
    return _table(("", "invariant"), lines)


def mutants() -> str:
    """What each seeded bug does, what it breaks, and the fault that shows it."""
    lines = []
    for name, proof in PROOF.items():
        found = MUTANTS.get(name)
        lines.append(
            (f"`{name}`", (found.__doc__ or "") if found else _AT_MOST_ONCE, proof.breaks, proof.scenario)
        )
    return _table(("mutant", "what it does wrong", "breaks", "shown when"), lines)


def figures(rounds: list[dict[str, Any]]) -> str:
    """What was run, and the table of faults for each release of the broker."""
    if not rounds:
        return "No run is recorded yet."
    return "\n\n".join(
        part for broker in sorted({one["broker"] for one in rounds}) for part in _of(broker, rounds)
    )


def _of(broker: str, rounds: list[dict[str, Any]]) -> Iterable[str]:
    mine = [one for one in rounds if one["broker"] == broker]
    yield f"### RabbitMQ {broker}"
    total = _table(
        ("seed", "rounds", "transfers", "messages accepted", "effects", "charges", "faults fired", "red"),
        [
            _seed(seed, [one for one in mine if one["seed"] == seed])
            for seed in sorted({one["seed"] for one in mine})
        ]
        + [_seed("all", mine)],
    )
    yield total
    first, last = (datetime.fromtimestamp(moment, UTC).date() for moment in (mine[0]["at"], mine[-1]["at"]))
    commits = sorted({one["commit"][:10] for one in mine})
    versions = ", ".join(f"{name} {version}" for name, version in mine[-1]["versions"].items())
    rate = sum(one["transfers"] for one in mine) / sum(one["seconds"] for one in mine)
    yield f"From {first} to {last}; commits {', '.join(commits)}; {versions}."
    yield f"{rate:.0f} transfers a second, with all pauses."
    skipped = sorted({name for one in mine for name in one["skipped"]})
    if skipped:
        yield f"Not possible there: {'; '.join(skipped)}."
    yield from (_red(one) for one in mine if one["red"])
    yield _table(HEAD, rows(mine))
    yield "What the senders did themselves:"
    yield _table(("kind", "row", "messages"), sent_rows(mine))


def _seed(name: object, rounds: list[dict[str, Any]]) -> tuple[str, ...]:
    counted = [sum(one["counters"][what] for one in rounds) for what in ("ok", "effects", "charges")]
    fired = sum(fault["fired"] for one in rounds for fault in one["faults"])
    red = sum(bool(one["red"]) for one in rounds)
    return (
        str(name),
        str(len(rounds)),
        str(sum(one["transfers"] for one in rounds)),
        *map(str, counted),
        str(fired),
        str(red),
    )


def _red(one: dict[str, Any]) -> str:
    why = "; ".join(f"{name}: {found[0]}" for name, found in one["broken"].items())
    return f"Red: seed {one['seed']}, round {one['round']}, commit {one['commit'][:10]}: {why}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruler = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ruler, *lines))
