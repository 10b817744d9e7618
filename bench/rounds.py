"""Interleaved rounds: everything once, then everything once more in the other direction, and so on.

The speed of a machine drifts; only what was measured in the same round may be compared.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.entries import Entry
from bench.measuring import Record

_LONGER = 1.15
"""Later rounds give a fast system more to do."""


def run_rounds(entries: Sequence[Entry], rounds: int, minutes: float, file: Path) -> list[Record]:
    """All records, also appended to a file as they come.

    Args:
        minutes: no round begins that would end later; the first always runs.
    """
    records: list[Record] = []
    last: dict[str, Record] = {}
    began, longest = time.monotonic(), 0.0
    for number in range(rounds):
        start = time.monotonic()
        if number and start - began + longest * _LONGER > minutes * 60:
            say(f"{number} rounds are all that fit into {minutes:g} minutes")
            break
        for entry in entries if number % 2 == 0 else reversed(entries):
            record = {**_one(entry, last.get(entry.name)), "round": number}
            records.append(record)
            if "error" not in record:
                last[entry.name] = record
            with file.open("a") as opened:
                opened.write(json.dumps(record) + "\n")
            _tell(record, began)
        longest = max(longest, time.monotonic() - start)
    return records


def say(text: str) -> None:
    """To people; stdout belongs to the figures."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _one(entry: Entry, last: Record | None) -> Record:
    try:
        return entry.run(last)
    except Exception as error:  # one that fails is recorded, and the others go on
        return {"system": entry.name, "error": f"{type(error).__name__}: {error}"[:500]}


def _tell(record: Record, began: float) -> None:
    what = record.get("error")
    if what is None:
        shown = (("rate", "{}/s"), ("publish_rate", "published {}/s"), ("chord_seconds", "chord {} s"))
        what = ", ".join(text.format(record[name]) for name, text in shown if name in record)
    say(f"{time.monotonic() - began:7.1f} s  round {record['round'] + 1}  {record['system']}: {what}")
