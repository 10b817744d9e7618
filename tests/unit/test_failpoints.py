"""Failpoints: what is read from the environment, what fires when, and what is refused."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reliable_tasks import failpoints
from reliable_tasks.errors import SettingError
from reliable_tasks.failpoints import MARKS_VARIABLE, VARIABLE, Action, Point
from reliable_tasks.settings import load_settings
from tests.programs import ROOT, Done, python
from tests.waiting import wait_until

PASS = """
import sys
from reliable_tasks import failpoints
for window in sys.argv[1:]:
    if failpoints.ACTIVE:
        try:
            failpoints.reach(window)
        except Exception as error:
            print(type(error).__name__, end=" ")
    print(window, flush=True)
"""


def passing(failpoint: str, *windows: str, **variables: str) -> Done:
    """Pass windows in a process of their own."""
    return python("-c", PASS, *windows, **{VARIABLE: failpoint, **variables})


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("worker.after_claim:kill", [Point("worker.after_claim", Action.KILL)]),
        ("worker.after_claim:kill:3", [Point("worker.after_claim", Action.KILL, 3)]),
        (
            "relay.after_select:stop(1500):2, pub.after_commit:stop",
            [Point("relay.after_select", Action.STOP, 2, 1500), Point("pub.after_commit", Action.STOP)],
        ),
        ("worker.before_commit:reset", [Point("worker.before_commit", Action.RESET)]),
        ("worker.before_commit:sleep(20)", [Point("worker.before_commit", Action.SLEEP, 1, 20)]),
        ("", []),
    ],
)
def test_a_failpoint_is_read(text: str, points: list[Point]) -> None:
    assert list(failpoints.parse(text)) == points
    assert [failpoints.parse(str(point)) for point in points] == [(point,) for point in points]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("worker.after_claim", "worker.after_claim:kill:2"),
        ("worker.after_claim:kill:0", "window:action"),
        ("worker.after_claims:kill", "did you mean worker.after_claim?"),
        ("somewhere:kill", "pub.before_commit"),
        ("worker.after_claim:murder", "use kill, stop"),
        ("worker.after_claim:kill(5)", "only stop and sleep"),
        ("worker.after_claim:sleep", "sleep(milliseconds)"),
        ("worker.after_claim:reset", "publish.before_confirm"),
        ("worker.after_claim:kill,", None),
    ],
)
def test_a_bad_value_is_refused_when_a_program_starts_and_says_what_to_write(
    text: str, words: str | None
) -> None:
    if words is None:
        load_settings({VARIABLE: text})
        return
    with pytest.raises(SettingError) as raised:
        load_settings({VARIABLE: text})
    assert raised.value.message.startswith(VARIABLE)
    assert words in raised.value.hint


def test_failpoints_are_refused_in_production_and_do_not_fire_there() -> None:
    with pytest.raises(SettingError, match="production refuses failpoints"):
        load_settings({VARIABLE: "worker.after_claim:kill", "RELIABLE_TASKS_ENV": "production"})
    done = passing("worker.after_claim:kill", "worker.after_claim", RELIABLE_TASKS_ENV="production")
    assert done.stdout == "worker.after_claim\n"


def test_a_failpoint_where_it_has_no_effect_is_refused(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(f"{VARIABLE}=worker.after_claim:kill\n")
    with pytest.raises(SettingError, match="has no effect"):
        load_settings({}, env_file=tmp_path / "env")
    with pytest.raises(SettingError, match="no folder"):
        load_settings({VARIABLE: "worker.after_claim:kill", MARKS_VARIABLE: str(tmp_path / "none")})


def test_without_a_failpoint_nothing_is_active() -> None:
    assert python("-c", "from reliable_tasks.failpoints import ACTIVE; print(ACTIVE)").stdout == "False\n"


def test_kill_ends_the_process_at_the_passing_that_was_chosen() -> None:
    done = passing(
        "worker.after_claim:kill:2", "worker.after_claim", "pub.after_commit", "worker.after_claim"
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["worker.after_claim", "pub.after_commit"]
    assert "failpoint worker.after_claim:kill:2 fires" in done.stderr


def test_with_a_folder_for_marks_a_restarted_process_does_not_fail_again(tmp_path: Path) -> None:
    marks = {MARKS_VARIABLE: str(tmp_path)}
    assert passing("worker.after_claim:kill", "worker.after_claim", **marks).returncode == -signal.SIGKILL
    mark = json.loads((tmp_path / "worker.after_claim:kill:1").read_text())
    assert mark["failpoint"] == "worker.after_claim:kill:1"
    assert passing("worker.after_claim:kill", "worker.after_claim", **marks).returncode == 0


def test_an_answer_is_lost_after_its_step_and_not_before() -> None:
    step = ("worker.before_commit", "worker.after_commit_before_ack")
    done = passing("worker.before_commit:raise_after", *step, *step)
    assert done.stdout.splitlines() == [step[0], f"DatabaseUnreachable {step[1]}", *step]
    assert passing("worker.before_commit:raise", *step).stdout.splitlines() == [
        f"RuntimeError {step[0]}",
        step[1],
    ]
    done = passing("worker.parent_after_settle:raise_after", "worker.parent_after_settle")
    assert done.stdout == "ConnectionResetError worker.parent_after_settle\n"


def test_each_failpoint_counts_all_passings_though_another_one_fires_there() -> None:
    window = "worker.after_claim"
    done = passing(f"{window}:raise:1,{window}:raise_after:2", window, window, window)
    assert done.stdout.splitlines() == [f"RuntimeError {window}", f"DatabaseUnreachable {window}", window]


def test_a_stopped_process_goes_on_after_its_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PASS, "worker.after_claim"]
    variables = {VARIABLE: "worker.after_claim:stop(400)", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE) as process:
        wait_until(lambda: _state(process.pid) == "T", "stopped")
        assert process.wait(20) == 0


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_reset_shuts_the_connection_for_both_sides() -> None:
    from reliable_tasks.failpoints.firing import Firing

    firing = Firing(failpoints.parse("worker.before_commit:reset"), None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        firing.reach("worker.before_commit", ours)
        assert theirs.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            ours.send(b"x")
