"""Processes that outlive us, named so that a recycled pid is never mistaken for them."""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reliable_tasks.dev.accounts import Account
from reliable_tasks.errors import ServiceStartError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KILL_WAIT = 20.0


@dataclass(frozen=True)
class ProcessId:
    """A process for ever: its pid and when it started (boot and clock ticks)."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return identify(self.pid) == self


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now; None when there is none or only its remains."""
    stat = _stat(pid)
    if stat is None or stat[0] in "ZX":
        return None
    return ProcessId(pid, f"{_boot()}.{stat[19]}")


def this_process() -> ProcessId:
    """The process that runs this code."""
    found = identify(os.getpid())
    if found is None:
        raise ServiceStartError(
            "/proc is not readable", hint="private services need Linux with /proc mounted"
        )
    return found


def spawn(
    argv: Sequence[str | Path], *, env: Mapping[str, str], folder: Path, log: Path, account: Account | None
) -> ProcessId:
    """Start a process in a session of its own; it goes on when we end. Its output is appended to the log."""
    # what a server logs may quote what it was sent, so it is for us alone
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        child = subprocess.Popen(
            [str(part) for part in argv],
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    # whoever ends it, it is waited for: it may be another program that ends what this one has started
    threading.Thread(target=child.wait, name=f"reaper of {child.pid}", daemon=True).start()
    # a process that ended at once has no start time any more; the caller sees it as not alive
    return identify(child.pid) or ProcessId(child.pid, "ended")


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    folder: Path,
    account: Account | None = None,
    seconds: float = 60,
) -> str:
    """Run a program to its end and return its output.

    Raises:
        ServiceStartError: when it fails, with its last line.
    """
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            [str(part) for part in argv],
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceStartError(f"{name} did not end within {seconds:g} s") from error
    if done.returncode != 0:
        raise ServiceStartError(f"{name} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def end(process: ProcessId, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn and wait its seconds for the process to end, at last SIGKILL.

    Returns whether it ended. A process that is not the recorded one is left alone.
    """
    for number, seconds in (*steps, (signal.SIGKILL, _KILL_WAIT)):
        with _handle(process) as handle:
            if handle is None:
                return True
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if _ended(handle, seconds):
                return True
    return False


def wait_ended(processes: Sequence[ProcessId], seconds: float) -> list[ProcessId]:
    """Wait until all of them have ended; returns those that have not."""
    deadline = time.monotonic() + seconds
    for process in processes:
        with _handle(process) as handle:
            if handle is not None:
                _ended(handle, max(0.0, deadline - time.monotonic()))
    return [process for process in processes if process.alive()]


def children(parent: ProcessId) -> list[ProcessId]:
    """The processes that this one has started and that still run."""
    return [process for pid in _pids() if _parent(pid) == parent.pid and (process := identify(pid))]


def running_in(folder: Path, program: str) -> list[ProcessId]:
    """Processes of this program whose working directory is the folder."""
    return [
        process
        for pid in _pids()
        if _link(pid, "cwd") == str(folder)
        and Path(_link(pid, "exe")).name == program
        and (process := identify(pid))
    ]


def with_variable(name: str, value: str) -> list[ProcessId]:
    """Processes that were started with this environment variable."""
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _pids():
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if wanted in environ.split(b"\0") and (process := identify(pid)):
            found.append(process)
    return found


@contextlib.contextmanager
def _handle(process: ProcessId) -> Iterator[int | None]:
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        yield None
        return
    try:
        # compared after opening: the handle cannot move to another process
        yield handle if process.alive() else None
    finally:
        os.close(handle)


def _ended(handle: int, seconds: float) -> bool:
    return bool(select.select([handle], [], [], seconds)[0])


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def _boot() -> str:
    try:
        return _BOOT_ID.read_text()[:8]
    except OSError:
        return "boot"
