"""What the cells of the quick tier came to, as a table for whoever runs the tests."""

from collections.abc import Iterator
from typing import Any

HEAD = ("fault", "fired", "redelivered", "takeover", "fenced", "unknown", "recovered", "verdict")

rows: list[tuple[str, ...]] = []


def note(fault: str, verdict: dict[str, Any], *, mutant: str = "") -> None:
    """One more row, of a run of the product or of one that has a bug."""
    counters = verdict["counters"]
    red = " ".join(verdict["red"])
    rows.append(
        (
            f"{fault}, with the bug {mutant}" if mutant else fault,
            str(verdict["fired"]),
            *(str(counters[name]) for name in HEAD[2:6]),
            f"{verdict['recovered']:.1f} s",
            f"red {red}" if red else "green",
        )
    )


def lines() -> Iterator[str]:
    """The table; nothing when no cell was run."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    for row in (HEAD, *rows):
        yield "  ".join(
            text.ljust(width) if column in (0, len(HEAD) - 1) else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
