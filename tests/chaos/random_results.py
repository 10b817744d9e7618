"""What the rounds of the random tier came to: one line of JSON each, added up over all runs into tables."""

import gzip
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.random_pace import COUNTED
from tests.chaos.random_round import ROW_OF_KIND
from tests.programs import ROOT

FOLDER = ROOT / "var" / "chaos"
RESULTS = Path(__file__).with_name("results.jsonl")
"""Belongs to the repository: a full run takes hours, and adds up over machines."""

Round = dict[str, Any]
HEAD = (
    "fault",
    "rows",
    "fired",
    "of",
    "redelivered",
    "takeovers",
    "fenced",
    "unknown",
    "recovered s",
    "verdict",
)


def append(result: Round) -> None:
    """Keep the result of a round."""
    with RESULTS.open("a") as file:
        file.write(json.dumps({name: value for name, value in result.items() if name != "table"}) + "\n")


def results() -> list[Round]:
    """All rounds that were kept, oldest first."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def green(seed: int, broker: str, transfers: int) -> set[int]:
    """The rounds of a seed that need not be run again."""
    return {
        one["round"]
        for one in results()
        if (one["seed"], one["broker"], one["transfers"], one["red"]) == (seed, broker, transfers, [])
    }


def rows(rounds: Iterable[Round]) -> list[tuple[str, ...]]:
    """One line per fault."""
    times: dict[str, list[tuple[Round, dict[str, Any]]]] = defaultdict(list)
    for one in rounds:
        for fault in one["faults"]:
            times[fault["name"]].append((one, fault))
    return [_row(name, found) for name, found in sorted(times.items(), key=_place)]


def _place(item: tuple[str, list[tuple[Round, dict[str, Any]]]]) -> tuple[int, str]:
    return int(item[1][0][1]["rows"][0][1:]), item[0]


def _row(name: str, found: list[tuple[Round, dict[str, Any]]]) -> tuple[str, ...]:
    took = [fault["recovered"] for _round, fault in found if fault.get("recovered") is not None]
    red = sorted({check for one, _fault in found for check in one["red"]})
    return (
        name,
        ", ".join(found[0][1]["rows"]),
        str(sum(fault["fired"] for _round, fault in found)),
        str(len(found)),
        *(str(sum(fault.get(kind, 0) for _round, fault in found)) for kind in COUNTED),
        f"{median(took):.1f} / {max(took):.1f}" if took else "-",
        "red " + " ".join(red) if red else "green",
    )


def sent_rows(rounds: list[Round]) -> list[tuple[str, str, str]]:
    """What the senders did themselves: kind, row of the matrix, how many messages."""
    return [
        (kind, row, str(sum(one["sent"].get(kind, 0) for one in rounds))) for kind, row in ROW_OF_KIND.items()
    ]


def totals(rounds: list[Round]) -> Iterator[str]:
    """What was run, in sentences."""
    for broker in sorted({one["broker"] for one in rounds}):
        mine = [one for one in rounds if one["broker"] == broker]
        counters = {name: sum(one["counters"][name] for one in mine) for name in mine[0]["counters"]}
        seeds = sorted({one["seed"] for one in mine})
        red = sum(bool(one["red"]) for one in mine)
        seconds = sum(one["seconds"] for one in mine)
        transfers = sum(one["transfers"] for one in mine)
        yield (
            f"RabbitMQ {broker}: {transfers} transfers and charges in {len(mine)} rounds of "
            f"{len(seeds)} seeds ({', '.join(map(str, seeds))}), {len(mine) - red} green, {red} red; "
            f"{transfers / seconds:.0f} a second with all pauses; "
            + ", ".join(f"{n} {v}" for n, v in counters.items())
        )


def table(rounds: list[Round]) -> str:
    """For the terminal."""
    lines = [HEAD, *rows(rounds)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def keep(folder: Path, name: str, result: Round) -> Path:
    """Move what is worth keeping of a round's folder: schedule, history, verdict; the logs too when it is red."""
    target = FOLDER / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    wanted = ["*.json", "*.jsonl", "*.txt", *(["*.log"] if result["red"] else [])]
    for path in (path for pattern in wanted for path in folder.glob(pattern)):
        with path.open("rb") as source, gzip.open(target / f"{path.name}.gz", "wb") as packed:
            shutil.copyfileobj(source, packed)
    return target
