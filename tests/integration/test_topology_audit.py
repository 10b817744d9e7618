"""`topology apply` is an operator's act: recorded where there is a database, and not stopped where there is none."""

import socket
from pathlib import Path
from typing import Any

import pytest

from reliable_tasks.dev import Stack
from reliable_tasks.store import actions
from reliable_tasks.store.engine import begin
from tests.deployment import Deployment
from tests.programs import Done, reliable_tasks


def apply(stack: Stack, vhost: str, database: str) -> Done:
    """The program, with nobody to ask."""
    around = Deployment(vhost, stack.management_url, database, Path())
    return reliable_tasks("topology", "apply", "--yes", **around.environment())


def test_it_is_recorded_before_and_after(
    reliable_stack: Stack, fresh_vhost: str, fresh_database: str, engine: Any
) -> None:
    done = apply(reliable_stack, fresh_vhost, fresh_database)
    assert done.returncode == 0, done.stderr
    assert "not recorded" not in done.stderr
    with begin(engine) as connection:
        found = actions.of_subject(connection, fresh_vhost.rpartition("/")[2])
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
