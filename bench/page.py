"""Writes the last recorded run into docs/performance.md, between its marks, so that it holds no invented number."""

import argparse
import json
import shutil
from typing import Any

from bench.report import Report, text_of
from bench.services import LOGS
from bench.system import ROOT

PAGE = ROOT / "docs" / "performance.md"
RECORDED = ROOT / "bench" / "recorded.json"
BEGIN, END = "<!-- figures: written by `make bench-docs` -->", "<!-- end of figures -->"
_NOT_FULL = (
    "**Not a full run yet.** These figures show that everything is measured, and nothing else: they come from a "
    "{kind} run{shrunk}, of {rounds} round(s), with a load average of {load} on {cores} cores."
)


def add_options(commands: Any) -> None:
    """The subcommand."""
    one = commands.add_parser("docs", help="docs/performance.md, from the last run")
    one.set_defaults(command=_write)
    one.add_argument("--kind", choices=("quick", "full"), help="by default the full run, when there is one")


def _write(options: argparse.Namespace) -> None:
    kinds = [options.kind] if options.kind else ["full", "quick"]
    found = [file for kind in kinds if (file := LOGS.parent / f"{kind}.json").exists()]
    if found:
        shutil.copyfile(found[0], RECORDED)
    PAGE.write_text(replaced(PAGE.read_text(), figures(recorded())))


def recorded() -> Report | None:
    """The run that is kept in the repository."""
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else None


def figures(report: Report | None) -> str:
    """The generated part of the page."""
    if report is None:
        return "No run is recorded yet."
    return (_warning(report) + text_of(report)).rstrip()


def replaced(text: str, made: str) -> str:
    """The page with another text between its marks."""
    before, _begin, rest = text.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    assert _begin
    assert _end
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def _warning(report: Report) -> str:
    configuration = report["configuration"]
    load, cores = configuration["machine"]["load_average"][0], configuration["machine"]["cores"]
    rounds = max((row["rounds"] for row in report["systems"].values()), default=0)
    if configuration["full"] and rounds >= 5 and load < cores:
        return ""
    share = configuration["sizes"]["share"]
    shrunk = f" with {share:g} of its tasks" if share < 1 else ""
    told = _NOT_FULL.format(kind=configuration["kind"], shrunk=shrunk, rounds=rounds, load=load, cores=cores)
    return told + "\n\n"
