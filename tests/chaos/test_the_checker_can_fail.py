"""A checker that has never said no proves nothing: each seeded bug turns it red, the product stays green."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from reliable_tasks.dev import Stack
from tests.chaos import quick_table
from tests.chaos.pooled import Verdict, Verdicts, begun, chosen, expect_green
from tests.chaos.running import HANGS_SECONDS
from tests.chaos.scenarios import ALONE, PROOF, Proof, run
from tests.deployment import new_deployment

pytestmark = pytest.mark.timeout(HANGS_SECONDS)

ORACLE = os.environ.get("RELIABLE_TASKS_TEST_ORACLE")
"""A file to which each mutant's verdicts are appended, for the checker's C13; read before others clean up."""


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest,
    reliable_stack: Stack,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Verdicts[Proof]]:
    """The verdicts on the mutants that were chosen, and on the product under the same faults."""
    mutated = [PROOF[mutant] for mutant in chosen(request, "mutant")]
    yield from begun(
        dict.fromkeys(one for proof in mutated for one in (proof.of_the_product, proof)),
        partial(run, reliable_stack),
        reliable_stack,
        migrated_template,
        tmp_path_factory,
        shape=Proof.shape,
    )


@pytest.mark.parametrize("mutant", [mutant for mutant in PROOF if mutant not in ALONE])
def test_a_seeded_bug_turns_the_checker_red_and_the_product_under_the_same_fault_is_green(
    verdicts: Verdicts[Proof], mutant: str
) -> None:
    proof = PROOF[mutant]
    _judge(proof, verdicts.of(proof.of_the_product), verdicts.of(proof))


@pytest.mark.parametrize("alone", ALONE)
def test_so_does_one_whose_fault_stops_the_broker_for_everybody(
    reliable_stack: Stack, migrated_template: str, tmp_path: Path, alone: str
) -> None:
    proof = PROOF[alone]
    found = []
    for number, one in enumerate((proof.of_the_product, proof)):
        place = tmp_path / str(number)
        place.mkdir()
        found.append(
            run(reliable_stack, one, new_deployment(reliable_stack, migrated_template, place, one.shape()))
        )
    _judge(proof, *found)


def _judge(proof: Proof, clean: Verdict, mutated: Verdict) -> None:
    if ORACLE:
        line = {
            "mutant": proof.mutant,
            "expected": proof.breaks,
            "red": mutated["red"],
            "clean": clean["red"],
        }
        with Path(ORACLE).open("a") as file:
            file.write(json.dumps(line) + "\n")
    quick_table.note(proof.scenario, mutated, mutant=proof.mutant)
    expect_green(proof.scenario, clean)
    assert proof.breaks in mutated["red"], f"{mutated['table']}\n{mutated['folder']}"
