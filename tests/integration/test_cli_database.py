"""`reliable-tasks db` against databases that cannot be used."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.programs import Done, reliable_tasks

pytest.importorskip("reliable_tasks.store.migrations")


def db(folder: Path, command: str, url: str) -> Done:
    return reliable_tasks("db", command, folder=folder, RELIABLE_TASKS_DATABASE_URL=url)


def refused(done: Done) -> None:
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
