"""The targets a newcomer sees are the targets there are; the set-up says what is wrong before it changes a thing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_make_alone_lists_every_target() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = re.findall(r"^  make ([a-z-]+) +\S", _run("make", "--no-print-directory").stdout, re.MULTILINE)
    assert {"help", "setup", "demo", "test", "check"} <= set(targets)
    assert shown == targets


def test_every_target_is_phony() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE) == re.findall(
        r"^([a-z-]+):", makefile, re.MULTILINE
    )


def test_an_old_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = _run("scripts/setup", PYTHON=str(old))
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "is Python 3.9.2" in done.stderr
    assert "PYTHON=/path/to/python3.12 make setup" in done.stderr
    assert done.stdout == ""


def test_a_timed_command_passes_its_exit_code_on(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "timed", scripts)
    setup = scripts / "setup"
    setup.write_text("#!/bin/sh\n")
    setup.chmod(0o755)
    done = _run(str(scripts / "timed"), "make nothing", "sh", "-c", "exit 3")
    assert done.returncode == 3
    assert re.search(
        r"make nothing: FAILED \(exit code 3\) in \d+ seconds, \d+ of them setting up", done.stderr
    )
