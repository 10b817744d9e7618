"""Programs as people and init systems run them: to their end, or until the end of a block."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
Done = subprocess.CompletedProcess[str]
Process = subprocess.Popen[bytes]


def python(*command: str, folder: Path = ROOT, **variables: str) -> Done:
    """Run Python to its end, with nobody to answer questions."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def reliable_tasks(*words: str, folder: Path = ROOT, **variables: str) -> Done:
    """Run our own program to its end."""
    return python("-m", "reliable_tasks.cli.main", *words, folder=folder, **variables)


@contextmanager
def program(log: Path, *command: str, folder: Path = ROOT, **variables: str) -> Iterator[Process]:
    """Run a program of Python modules until the end of the block; its output is appended to the log."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            kill(process)


def kill(process: Process) -> None:
    """SIGKILL a program with all processes that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
