"""The schedule of a seed is decided before anything runs, and has every fault once."""

import hashlib
from collections import Counter

import pytest

from reliable_tasks.failpoints import WINDOWS, Action, parse
from tests.chaos.random_round import ROW_OF_KIND
from tests.chaos.random_schedule import CATALOGUE, FIRST_ROUNDS, PASSED_BY, schedule


def test_a_seed_decides_everything() -> None:
    assert schedule(3) == schedule(3)
    assert schedule(3) != schedule(4)


def test_what_is_added_leaves_the_rounds_that_were_recorded_as_they_are() -> None:
    acts = [planned.acts for planned in schedule(1)[:FIRST_ROUNDS]]
    assert hashlib.sha256(repr(acts).encode()).hexdigest()[:16] == "82fcf8b0dbed6581", (
        "see LATER in random_schedule.py"
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_each_fault_happens_once_in_a_seed(seed: int) -> None:
    acts = Counter(name for planned in schedule(seed) for name in planned.acts)
    assert acts == Counter(entry.name for entry in CATALOGUE)


def test_each_window_fails_in_each_way_in_each_program_that_passes_it() -> None:
    armed = Counter(
        (one.program, one.point.window, one.point.action) for planned in schedule(1) for one in planned.armed
    )
    assert armed == Counter(
        (program, name, action)
        for name, window in WINDOWS.items()
        for program in PASSED_BY[name.partition(".")[0]]
        for action in Action
        if action is not Action.RESET or window.reset
    )


def test_failpoints_of_a_round_do_not_take_each_others_passing() -> None:
    for planned in schedule(5):
        others = [one for one in planned.armed if one.program != "operator"]
        assert len({(one.program, one.point.window, one.point.nth) for one in others}) == len(others)
        assert all(parse(str(one.point)) == (one.point,) for one in planned.armed)


def test_faults_say_their_rows_of_the_matrix() -> None:
    rows = {row for entry in CATALOGUE for row in entry.rows} | set(ROW_OF_KIND.values())
    assert rows <= {f"F{number}" for number in range(1, 39)}
