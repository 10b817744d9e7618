"""`reliable-tasks dev` as people run it, and what the machine says about its processes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import ROOT

_LISTENING = "0A"


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    code: int
    out: str
    err: str


def start_dev(command: str, folder: Path, *options: str, **variables: str) -> "subprocess.Popen[str]":
    """Start the program without waiting for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "reliable_tasks.cli.main", "dev", command, "--folder", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def dev(command: str, folder: Path, *options: str, **variables: str) -> Done:
    """Run the program to its end."""
    program = start_dev(command, folder, *options, **variables)
    out, err = program.communicate(timeout=120)
    return Done(program.returncode, out, err)


def up(folder: Path, *options: str) -> dict[str, str]:
    """`dev up`; returns the addresses."""
    done = dev("up", folder, "--output", "json", *options, PYTHONWARNINGS="default::ResourceWarning")
    assert done.code == 0, done.err
    assert "ResourceWarning" not in done.err
    addresses: dict[str, str] = json.loads(done.out)
    return addresses


def state_of(folder: Path) -> dict[str, Any]:
    """The state file."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def recorded_pids(folder: Path) -> set[int]:
    """The pids in the state file."""
    state = state_of(folder)
    processes = (state["broker"]["server"], state["broker"]["epmd"], state["database"]["server"])
    return {process["pid"] for process in processes}


def with_descendants(pids: set[int]) -> set[int]:
    """These processes and all that they started, directly or not."""
    found, grown = set(pids), True
    while grown:
        parents = {int(p.name): _parent(p) for p in Path("/proc").iterdir() if p.name.isdigit()}
        more = {pid for pid, parent in parents.items() if parent in found}
        grown, found = not more <= found, found | more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a process that nobody has reaped does not."""
    return {pid for pid in pids if _stat(Path(f"/proc/{pid}"))[:1] not in ([], ["Z"])}


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Where these processes listen: address as the kernel writes it, and port."""
    inodes = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(handle))
            except FileNotFoundError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, port = fields[1].split(":")
            if fields[3] == _LISTENING and f"socket:[{fields[9]}]" in inodes:
                found.add((address, int(port, 16)))
    return found


def _parent(process: Path) -> int:
    stat = _stat(process)
    return int(stat[1]) if stat else 0


def _stat(process: Path) -> list[str]:
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
