"""Faults of the random tier that happen to our own programs: killed, stopped, restarted, with a wrong clock."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from reliable_tasks.dev.processes import identify
from tests.chaos.clock import CLOCK
from tests.chaos.random_field import PRODUCERS, SERVICES, WORKERS, Entry, Field

HOURS = 7200.0
CRASHES = 3
STARVED = 5
"""How many pool processes are tried, until one wants memory."""

STOP_SECONDS = 20.0
_CGROUP = Path("/sys/fs/cgroup/memory")
_ADVISORY = (
    "pg_locks WHERE locktype = 'advisory' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _pool_process_killed(field: Field) -> bool:
    pid = field.executing()
    return pid is not None and _killed(pid)


def _killed(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _out_of_memory(field: Field) -> bool:
    """The kernel ends a pool process that wants more than its group may have; one that wants nothing is let go."""
    group = _CGROUP / f"reliable-tasks-chaos-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text("65536")
        return any(_starved(field, group) for _ in range(STARVED))
    finally:
        group.rmdir()


def _starved(field: Field, group: Path) -> bool:
    pid = field.executing()
    if pid is None:
        return False
    try:
        (group / "cgroup.procs").write_text(str(pid))
        return field.wait(lambda: identify(pid) is None, 10)
    except ProcessLookupError:
        return False
    finally:
        _killed(pid)
        field.wait(lambda: not (group / "cgroup.procs").read_text())


def _parent_killed(field: Field) -> bool:
    return _killed(field.pid(field.chance.choice(WORKERS)))


def _worker_killed(field: Field) -> bool:
    return field.signal(field.chance.choice(WORKERS), signal.SIGKILL)


def _all_workers_killed(field: Field) -> bool:
    killed = [field.signal(worker, signal.SIGKILL) for worker in WORKERS]
    return all(killed)


def _stopped_past_its_lease(field: Field) -> bool:
    """A pool process stands still in a call outside; its heartbeat with it."""
    pid = field.executing(lambda line: line["key"].startswith(("charge:", "known:", "blind:")))
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        try:
            field.hold(2.0, 4.0)
        finally:
            os.kill(pid, signal.SIGCONT)
        return True
    return False


def _worker_stands_still(field: Field) -> bool:
    worker = field.chance.choice(WORKERS)
    stopped = field.signal(worker, signal.SIGSTOP)
    field.hold(2.0, 4.0)
    return field.signal(worker, signal.SIGCONT) and stopped


def _relay_overtaken(field: Field) -> bool:
    """Each of the services stands still in turn, and whoever led has lost the lead; the other one leads; both go on."""
    sent = []
    for stopped in SERVICES:
        field.signal(stopped, signal.SIGSTOP)
        try:
            with suppress(SQLAlchemyError), field.run.engine.begin() as connection:
                connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM {_ADVISORY}"))
            moment = time.time()
            sent.append(field.wait(lambda m=moment: field.begins(m) > 5, 10))  # type: ignore[misc]
            field.hold(0.5, 1.5)
        finally:
            field.signal(stopped, signal.SIGCONT)
    return any(sent)


def _producer_killed(field: Field) -> bool:
    done = {line["by"] for line in field.run.history.lines() if line["op"] == "sent"}
    at_work = [name for name in PRODUCERS if name not in done]
    return bool(at_work) and field.signal(field.chance.choice(at_work), signal.SIGKILL)


def _services_killed(field: Field) -> bool:
    killed = [field.signal(name, signal.SIGKILL) for name in SERVICES]
    return all(killed)


def _crash_loop(field: Field) -> bool:
    """The only worker dies again and again, each time when it has begun something and holds more."""
    worker, *others = field.chance.sample(WORKERS, len(WORKERS))
    with _away(field, others):
        for _ in range(CRASHES):
            moment = time.time()
            if not field.wait(lambda since=moment: field.has_begun(worker, since), 60):  # type: ignore[misc]
                return False
            field.signal(worker, signal.SIGKILL)
    return True


@contextmanager
def _away(field: Field, workers: Sequence[str]) -> Iterator[None]:
    """These workers finish what they do and stop, so that nobody else takes what there is; they come back after it."""
    field.run.paused.update(workers)
    try:
        for worker in workers:
            os.kill(field.pid(worker), signal.SIGTERM)
        for worker in workers:
            if not field.wait(lambda name=worker: not field.run.programs[name].alive, STOP_SECONDS):  # type: ignore[misc]
                field.signal(worker, signal.SIGKILL)
        yield
    finally:
        field.run.paused.difference_update(workers)


def _asked_to_stop(number: signal.Signals) -> Callable[[Field], bool]:
    """And killed when it takes too long, as any init system does."""

    def act(field: Field) -> bool:
        worker = field.chance.choice(WORKERS)
        pid = field.pid(worker)
        process = field.run.programs[worker].process
        os.kill(pid, number)
        if not field.wait(lambda: field.run.programs[worker].process != process, STOP_SECONDS):
            field.run.history.say("not stopped", program=worker, signal=number)
            field.signal(worker, signal.SIGKILL)
        return True

    return act


def started_anew(field: Field, worker: str, **variables: str) -> None:
    """Killed, and started with another environment than before."""
    field.run.paused.add(worker)
    field.signal(worker, signal.SIGKILL)
    field.start_worker(worker, **variables)
    field.run.paused.discard(worker)


def _clock(seconds: float) -> Callable[[Field], bool]:
    def act(field: Field) -> bool:
        worker = field.chance.choice(WORKERS)
        started_anew(field, worker, **{CLOCK: str(seconds)})

        def at_work() -> bool:
            pids = {process.pid for process in field.run.children(worker)}
            return sum(line["op"] == "begin" and line["pid"] in pids for line in field.since(moment)) > 3

        moment = time.time()
        worked = field.wait(at_work, 60)
        started_anew(field, worker)
        return worked

    return act


PROGRAMS = (
    Entry("a pool process is killed while it executes", ("F14",), _pool_process_killed),
    Entry("a pool process is killed for want of memory", ("F16",), _out_of_memory, needs=("cgroup",)),
    Entry("a worker's parent is killed, its pool processes are not", ("F14",), _parent_killed),
    Entry("a worker is killed with all its processes", ("F14",), _worker_killed),
    Entry("all workers are killed at once", ("F14",), _all_workers_killed),
    Entry("a pool process stands still past its lease, in a call outside", ("F15",), _stopped_past_its_lease),
    Entry("a worker stands still with all its processes", ("F15",), _worker_stands_still),
    Entry("a relay stands still, loses the lead and goes on", ("F4",), _relay_overtaken),
    Entry("a sender is killed", ("F1",), _producer_killed),
    Entry("relay and collector are killed", ("F3",), _services_killed),
    Entry("a worker dies again and again with what it has fetched", ("F30",), _crash_loop),
    Entry("a worker is asked to stop when it is done", ("F14",), _asked_to_stop(signal.SIGTERM)),
    Entry("a worker is asked to stop at once", ("F14",), _asked_to_stop(signal.SIGQUIT)),
    Entry("a worker's clock is two hours ahead", ("F26",), _clock(HOURS)),
    Entry("a worker's clock is two hours behind", ("F26",), _clock(-HOURS)),
)
