"""Imports run downwards, and the rules that say so do catch what they forbid."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_imports_keep_the_layers() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("place", "line", "broken"),
    [
        (
            "store/engine.py",
            "import reliable_tasks.worker",
            "store is not allowed to import reliable_tasks.worker",
        ),
        (
            "store/engine.py",
            "import reliable_tasks.broker",
            "store is not allowed to import reliable_tasks.broker",
        ),
        ("operate/results.py", "import sqlalchemy", "SQLAlchemy and psycopg2 live in store BROKEN"),
        ("services/relay.py", "import pika", "pika and amqp live in broker BROKEN"),
        ("store/engine.py", "import celery", "Celery, kombu and billiard live in worker and app BROKEN"),
        ("services/relay.py", "import prometheus_client", "prometheus_client lives in observe BROKEN"),
        ("operate/results.py", "import rich", "click and rich live in cli BROKEN"),
        ("operate/results.py", "import topology", "The engine never imports a deployment BROKEN"),
        ("model/states.py", "import reliable_tasks.model.retry", None),
        ("unplaced.py", "", "reliable_tasks.unplaced"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, place: str, line: str, broken: str | None) -> None:
    for folder in ("reliable_tasks", "topology"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    module = tmp_path / "reliable_tasks" / place
    module.write_text(f"{module.read_text() if module.exists() else ''}\n{line}\n")
    done = _lint(tmp_path)
    if broken is None:
        assert done.returncode == 0, done.stdout
    else:
        assert done.returncode == 1
        assert broken in " ".join(done.stdout.split())
