"""Processes under a supervisor: started again, given up, told to stop. The nodes here do nothing."""

import logging
from typing import Any

import pytest

from reliable_tasks.errors import SettingError
from reliable_tasks.worker.many_nodes import run_many
from tests.programs import Done, python

PROGRAM = """
import logging, os, signal, sys, time
from pathlib import Path
from reliable_tasks.worker.supervisor import Supervisor

def begun(number):
    with open(f"{sys.argv[1]}/{number}", "a") as marks:
        marks.write("x")
    return os.path.getsize(f"{sys.argv[1]}/{number}")

def stop():
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)

def main(number, ready):
NODE

sys.exit(Supervisor(2, main, logging.getLogger()).run())
"""


def supervised(folder: Any, node: str) -> Done:
    """Run two nodes with this body: `begun(number)` is how often this one was started."""
    body = "\n".join(f"    {line}" for line in node.strip().splitlines())
    return python("-c", PROGRAM.replace("NODE", body), str(folder))


def test_a_node_that_dies_is_started_again_and_the_program_ends_well(tmp_path: Any) -> None:
    done = supervised(
        tmp_path,
        """
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ready()
if number == 2 and begun(2) < 4:
    os.kill(os.getpid(), signal.SIGKILL)
if number == 2:
    stop()
time.sleep(60)
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("node 2 has ended by signal 9: it is started again in 0 s") == 3


def test_a_node_that_ends_badly_when_it_is_told_to_stop_is_not_hidden(tmp_path: Any) -> None:
    done = supervised(
        tmp_path,
        """
signal.signal(signal.SIGTERM, lambda *_: os._exit(number + 2))
ready()
if number == 2:
    stop()
time.sleep(60)
""",
    )
    assert done.returncode in (3, 4)


def test_when_the_first_cannot_start_the_others_are_not_started(tmp_path: Any) -> None:
    done = supervised(tmp_path, "begun(number)\nsys.exit(3)")
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert "node 1 cannot start: it has ended with exit code 3; this worker ends" in done.stderr


def test_a_node_that_cannot_start_later_is_given_up_at_last(tmp_path: Any) -> None:
    done = supervised(
        tmp_path,
        """
if number == 2:
    begun(2)
    sys.exit(4)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
ready()
time.sleep(60)
""",
    )
    assert done.returncode == 4
    assert (tmp_path / "2").read_text() == "xxxxx"


@pytest.mark.parametrize(
    "options",
    [
        ("-P", "prefork"),
        ("-c4",),
        ("-Q", "a", "--autoscale=4,1"),
        ("-B",),
        ("--detach",),
        ("--pidfile", "x"),
        ("-S", "x"),
    ],
)
def test_what_means_nothing_for_nodes_is_refused(options: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="cannot be given beside --processes"):
        run_many(None, "bank:app", 2, options, logging.getLogger())
