"""`topology apply` is an operator's act: recorded where there is a database, and not stopped where there is none."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reliable_tasks.dev import Stack
from reliable_tasks.store import actions
from reliable_tasks.store.engine import begin, create_engine

ROOT = Path(__file__).parents[2]


def apply(stack: Stack, vhost: str, database: str) -> "subprocess.CompletedProcess[str]":
    """The program, with nobody to ask."""
    return subprocess.run(
        [sys.executable, "-m", "reliable_tasks.cli.main", "topology", "apply", "--yes"],
        cwd=ROOT,
        env={
            **os.environ,
            "RELIABLE_TASKS_BROKER_URL": vhost,
            "RELIABLE_TASKS_MANAGEMENT_URL": stack.management_url,
            "RELIABLE_TASKS_DATABASE_URL": database,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_is_recorded_before_and_after(
    reliable_stack: Stack, fresh_vhost: str, fresh_database: str
) -> None:
    done = apply(reliable_stack, fresh_vhost, fresh_database)
    assert done.returncode == 0, done.stderr
    assert "not recorded" not in done.stderr
    engine = create_engine(fresh_database)
    with begin(engine) as connection:
        found = actions.of_subject(connection, fresh_vhost.rpartition("/")[2])
    engine.dispose()
    assert [(row["action"], row["details"]["outcome"]) for row in found] == [
        ("topology.apply", "started"),
        ("topology.apply", "done"),
    ]
    assert found[0]["actor"].endswith("(unverified)")
    assert any("payments" in item for item in found[1]["details"]["items"])


@pytest.mark.parametrize("database", ["unmigrated", "unreachable"])
def test_without_a_usable_database_it_says_so_in_one_line_and_goes_on(
    reliable_stack: Stack, fresh_vhost: str, empty_database: str, database: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"postgresql://u:S3CRET@127.0.0.1:{closed.getsockname()[1]}/d"
        done = apply(reliable_stack, fresh_vhost, empty_database if database == "unmigrated" else nowhere)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("not recorded among the operators' acts: ") == 1
    assert "S3CRET" not in done.stderr
    assert "created" in done.stderr.splitlines()[-1]
