"""What is shipped: the wheel alone, elsewhere, brings its revisions and the demo's application."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_every_revision(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    revisions = {path.name for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert revisions
    assert {f"reliable_tasks/_alembic/versions/{name}" for name in revisions} <= names
    assert {"reliable_tasks/_alembic/env.py", "reliable_tasks/py.typed"} <= names


def test_the_wheel_carries_nothing_it_should_not(wheel: Path) -> None:
    foreign = [
        name
        for name in zipfile.ZipFile(wheel).namelist()
        if not name.startswith(("reliable_tasks/", "reliable_tasks-"))
        or "__pycache__" in name
        or "tests" in name
    ]
    assert foreign == []


def test_the_installed_wheel_finds_its_own_revisions(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "from reliable_tasks.store import migrations\n"
        "print(migrations.script_location())\n"
        "print(migrations.newest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    location, newest = done.stdout.split()
    assert Path(location) == site / "reliable_tasks" / "_alembic"
    assert newest != "None"


def test_the_installed_wheel_brings_the_demo_with_its_topology(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "from reliable_tasks.cli.demo import load_demo\n"
        "print(load_demo().__file__)\n"
        "import topology\n"
        "print(topology.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    packaged = site / "reliable_tasks" / "_examples"
    assert done.stdout.split() == [
        str(packaged / "examples" / "payments" / "demo.py"),
        str(packaged / "topology" / "__init__.py"),
    ]
