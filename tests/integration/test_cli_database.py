"""`reliable-tasks db` against databases that cannot be used."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]

pytest.importorskip("reliable_tasks.store.migrations")


def db(folder: Path, command: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reliable_tasks.cli.main", "db", command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RELIABLE_TASKS_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 7, done.stderr
    told, advice = done.stderr.splitlines()
    assert told.startswith("error[RT202]: ")
    assert advice.startswith("hint: ")
    assert "S3CRET" not in done.stderr


@pytest.mark.parametrize("command", ["upgrade", "current", "check"])
def test_an_unreachable_database(tmp_path: Path, command: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused(db(tmp_path, command, f"postgresql://u:S3CRET@127.0.0.1:{closed.getsockname()[1]}/d"))


def test_a_wrong_password(tmp_path: Path, empty_database: str) -> None:
    server = urlsplit(empty_database)
    url = f"postgresql://{server.username}:S3CRET@{server.hostname}:{server.port}{server.path}"
    refused(db(tmp_path, "current", url))


def test_upgrade_then_current_then_check(tmp_path: Path, empty_database: str) -> None:
    assert db(tmp_path, "upgrade", empty_database).returncode == 0
    current = db(tmp_path, "current", empty_database)
    assert current.returncode == 0
    assert "***" in current.stdout
    checked = db(tmp_path, "check", empty_database)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr
