"""A checker that has never said no proves nothing: each seeded bug turns it red, the product stays green."""

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from tests.chaos.mutants import MUTANT
from tests.chaos.running import Run
from tests.chaos.scenario_faults import WORKER
from tests.chaos.scenarios import PROOF, SCENARIOS
from tests.deployment import new_deployment

ORACLE = os.environ.get("RELIABLE_TASKS_TEST_ORACLE")
"""A file to which each mutant's verdicts are appended, for the checker's C13; read before others clean up."""


class Runs:
    """Runs scenarios, each of them once for the product and once for each mutant."""

    def __init__(self, stack: Stack, template: str, folder: Path) -> None:
        self._stack, self._template, self._folder = stack, template, folder
        self.of_the_product = cache(self.of)

    def of(self, name: str, mutant: str = "") -> dict[str, Any]:
        """The checker's verdict on one run."""
        scenario = SCENARIOS[name]
        place = self._folder / re.sub(r"\W+", "-", f"{name} {mutant}")
        place.mkdir()
        around = new_deployment(self._stack, self._template, place, scenario.shape(mutant))
        variables = {
            "CHAOS_LEASE": "1",
            **({MUTANT: mutant} if mutant != "dead_letters_at_most_once" else {}),
        }
        with Run(around, scenario.sends(), **variables) as run:
            run.history.say("run", scenario=name, mutant=mutant)
            run.history.say("expect", events=scenario.events)
            scenario.act(run, self._stack)
            run.wait_ready(WORKER)
            run.drain(scenario.patience, limit_seconds=2 * scenario.patience)
            return run.judge("--broker-seconds", "8")


@pytest.fixture(scope="module")
def runs(reliable_stack: Stack, migrated_template: str, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(reliable_stack, migrated_template, tmp_path_factory.mktemp("mutants"))


@pytest.mark.parametrize("mutant", PROOF)
def test_a_seeded_bug_turns_the_checker_red_and_the_product_under_the_same_fault_is_green(
    runs: Runs, mutant: str
) -> None:
    expected, scenario = PROOF[mutant]
    clean = runs.of_the_product(scenario)
    assert clean["verdict"] == "green", clean["table"]
    mutated = runs.of(scenario, mutant)
    if ORACLE:
        line = {"mutant": mutant, "expected": expected, "red": mutated["red"], "clean": clean["red"]}
        with Path(ORACLE).open("a") as file:
            file.write(json.dumps(line) + "\n")
    assert expected in mutated["red"], mutated["table"]
