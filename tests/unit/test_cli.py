"""The program around the commands: what it prints and returns when something is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from reliable_tasks.cli import main
from reliable_tasks.cli.context import audit_actor
from reliable_tasks.cli.failures import told_in_one_line
from reliable_tasks.errors import BrokerUnreachable

ROOT = Path(__file__).parents[2]


def environment(**names: str) -> dict[str, str]:
    """This process's environment without any of our settings, plus names."""
    ours = ("RELIABLE_TASKS_", "CELERY_", "RABBITMQ_", "DB_", "REDIS_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "PYTHONPATH": str(ROOT), **names}


def run(folder: Path, *arguments: str, **names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reliable_tasks.cli.main", *arguments],
        cwd=folder,
        env=environment(**names),
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("arguments", "names", "code", "message", "hint"),
    [
        (["config", "show"], {"RABBITMQ_PORT": "x"}, 1, "error[RT101]: RABBITMQ_PORT is 'x'", "1 to 65535"),
        (["config", "show"], {"CELERY_BROKER": "redis"}, 1, "error[RT101]: CELERY_BROKER=redis", "rabbitmq"),
        (["confg"], {}, 2, "error: there is no command confg, did you mean config?", "--help"),
        (["config", "shw"], {}, 2, "error: No such command 'shw'.", "config --help"),
        (["config", "show", "--output", "xml"], {}, 2, "error: Invalid value for '--output'", "show --help"),
        (["config", "show", "--url", "x"], {}, 2, "error: No such option", "show --help"),
        (["worker"], {}, 1, "error[RT101]: no application is named", "RELIABLE_TASKS_APP"),
        (
            ["worker", "-A", "nowhere"],
            {},
            1,
            "error[RT101]: nowhere cannot be loaded: there is no module",
            "-A",
        ),
        (["-A", "nowhere:app", "worker"], {}, 1, "error[RT101]: nowhere:app cannot be loaded", "-A"),
        (
            ["worker"],
            {"RELIABLE_TASKS_APP": "broken"},
            1,
            "broken cannot be loaded: ValueError: no",
            "TRACEBACK",
        ),
        (["worker", "-A", "empty"], {}, 1, "error[RT101]: the module empty has no app or celery", "-A"),
        (["worker", "-A", "empty:bank"], {}, 1, "error[RT101]: the module empty has no attribute bank", "-A"),
    ],
)
def test_wrong_input_is_one_line_and_a_hint(
    tmp_path: Path, arguments: list[str], names: Mapping[str, str], code: int, message: str, hint: str
) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('no')\n")
    (tmp_path / "empty.py").write_text("")
    done = run(tmp_path, *arguments, **names)
    assert done.returncode == code
    assert done.stdout == ""
    told, advice = done.stderr.splitlines()
    assert message in told
    assert advice.startswith("hint: ")
    assert hint in advice


def test_config_show_masks_and_tells_the_origin(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RABBITMQ_PASSWORD=S3CRET\nDB_PASSWORD=S3CRET\n")
    done = run(tmp_path, "config", "show", "--output", "json", DB_HOST="db")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["DB_HOST"] == {"name": "DB_HOST", "value": "db", "origin": "environment DB_HOST"}
    assert rows["DB_PORT"]["origin"] == "default"
    assert rows["RABBITMQ_PASSWORD"] == {
        "name": "RABBITMQ_PASSWORD",
        "value": "***",
        "origin": ".env RABBITMQ_PASSWORD",
    }
    assert (
        rows["RELIABLE_TASKS_DATABASE_URL"]["value"]
        == "postgresql://reliable_tasks:***@db:5432/reliable_tasks"
    )
    assert "S3CRET" not in done.stdout + run(tmp_path, "config", "show").stdout


def test_the_overview_imports_no_command(tmp_path: Path) -> None:
    program = (
        "import sys; from reliable_tasks.cli.main import cli; "
        "cli.main(['--help'], standalone_mode=False); "
        "print({'sqlalchemy', 'pika', 'celery', 'reliable_tasks.cli.config'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_broken_module_breaks_only_its_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lame_command.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        main.COMMANDS, "lame", main.LazyCommand("lame_command:lame", "Needs what is not here.")
    )
    runner = CliRunner()
    assert "Needs what is not here." in runner.invoke(main.cli, ["--help"]).output
    assert runner.invoke(main.cli, ["config", "show"]).exit_code == 0
    lame = runner.invoke(main.cli, ["lame"])
    assert lame.exit_code == 1
    assert "the command lame cannot be loaded: there is no module not_installed_here" in lame.stderr


def test_the_reader_going_away_is_quiet(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "reliable_tasks.cli.main", "config", "show"],
        cwd=tmp_path,
        env=environment(),
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (
            BrokerUnreachable("no broker at h:1", hint="start it"),
            7,
            "error[RT201]: no broker at h:1\nhint: start it\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("by [bold]zero\nand more"),
            1,
            "error: unexpected ZeroDivisionError: by [bold]zero\n"
            "hint: RELIABLE_TASKS_TRACEBACK=1 shows where\n",
        ),
    ],
)
def test_how_commands_end(
    raised: BaseException,
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RELIABLE_TASKS_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended, told_in_one_line():
        raise raised
    assert ended.value.code == code
    assert capsys.readouterr().err == told


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELIABLE_TASKS_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError), told_in_one_line():
        raise ZeroDivisionError


def test_no_color_is_honoured(tmp_path: Path) -> None:
    plain = run(tmp_path, "confg", FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[3" not in plain.stderr


def test_the_actor_is_marked_unverified() -> None:
    assert audit_actor().endswith(" (unverified)")


class TestMountedInCelery:
    """`celery -A app reliable ...`."""

    @staticmethod
    def celery(folder: Path, *arguments: str, **names: str) -> subprocess.CompletedProcess[str]:
        mount = folder / "mount-0.dist-info"
        mount.mkdir()
        (mount / "METADATA").write_text("Metadata-Version: 2.1\nName: mount\nVersion: 0\n")
        (mount / "entry_points.txt").write_text("[celery.commands]\nreliable = reliable_tasks.cli.main:cli\n")
        (folder / "asking.py").write_text(
            "import click\n"
            "from reliable_tasks.cli.context import load_app, settings_options\n"
            "@click.command()\n@settings_options()\n"
            "def ask(settings): print('app', load_app(settings).main)\n"
            "from reliable_tasks.cli.main import COMMANDS, LazyCommand\n"
            "COMMANDS['ask'] = LazyCommand('asking:ask', 'Ask.')\n"
        )
        (folder / "bank.py").write_text("import asking\nfrom celery import Celery\napp = Celery('bank')\n")
        return subprocess.run(
            [sys.executable, "-m", "celery", *arguments],
            cwd=folder,
            env=environment(**{**names, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}),
            capture_output=True,
            text=True,
            timeout=30,
        )

    def test_commands_see_the_app_that_celery_loaded(self, tmp_path: Path) -> None:
        done = self.celery(tmp_path, "-A", "bank", "reliable", "ask")
        assert (done.returncode, done.stdout) == (0, "app bank\n"), done.stderr

    def test_failures_are_one_line_there_too(self, tmp_path: Path) -> None:
        done = self.celery(tmp_path, "-A", "bank", "reliable", "config", "show", DB_PORT="x")
        assert done.returncode == 1
        assert "error[RT101]: DB_PORT is 'x', not a port" in done.stderr
        assert "Traceback" not in done.stderr
