"""docs/reliability.md says what the code says: invariants, mutants, and the faults that no run has."""

import re

from tests.chaos import random_docs
from tests.chaos.random_round import ROW_OF_KIND
from tests.chaos.random_schedule import CATALOGUE, ROWS
from tests.programs import ROOT

PAGE = random_docs.PAGE.read_text()


def test_invariants_and_mutants_are_those_of_the_code() -> None:
    for made in (random_docs.invariants(), random_docs.mutants()):
        assert made in PAGE, "run `make chaos-docs`"


def test_every_row_of_the_fault_matrix_is_tried_or_named_as_not_tried() -> None:
    tried = (
        {row for entry in CATALOGUE for row in entry.rows} | set(ROWS.values()) | set(ROW_OF_KIND.values())
    )
    untried = re.findall(r"^\| (F\d+) \|", PAGE.partition("### Rows of the fault matrix")[2], re.MULTILINE)
    assert sorted(tried | set(untried)) == sorted(f"F{number}" for number in range(1, 39))
    assert not tried & set(untried)


def test_the_readme_leads_there() -> None:
    assert "(docs/reliability.md)" in (ROOT / "README.md").read_text()


def test_figures_are_only_those_that_were_recorded() -> None:
    assert random_docs.figures([]) == "No run is recorded yet."
    made = random_docs.figures([_round([]), _round(["C1"])])
    assert "| all | 2 | 20 | 10 | 8 | 2 | 1 | 1 |" in made
    assert "Red: seed 1, round 0, commit 0123456789: C1: lost" in made
    assert "| a fault | F9 | 1 | 2 | 4 | 0 | 0 | 2 | 1.5 / 1.5 | red C1 |" in made


def _round(red: list[str]) -> dict[str, object]:
    fault = {
        "name": "a fault",
        "rows": ["F9"],
        "fired": int(not red),
        "redelivered": 2,
        "takeover": 0,
        "fenced": 0,
    }
    return {
        "at": 0.0, "seed": 1, "commit": "0123456789abc", "versions": {"python": "3"}, "round": 0, "broker": "3.10.8",
        "transfers": 10, "seconds": 5.0, "red": red, "broken": {name: ["lost"] for name in red}, "skipped": [],
        "counters": {"ok": 5, "effects": 4, "charges": 1}, "sent": {},
        "faults": [{**fault, "unknown": 1, "recovered": None if red else 1.5}],
    }  # fmt: skip
