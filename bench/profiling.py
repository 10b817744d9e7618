"""Where the workers' CPU goes: `python -m bench profile ours-none-prefork2`, by py-spy, while a queue is worked off.

Each sample is counted twice: for the step of a task's way that it belongs to, and for the library that its innermost
known frame is in. `--idle` counts waiting, too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import clean
from bench.counters import cpu_seconds, descendants
from bench.producing import produce
from bench.report import table
from bench.services import services
from bench.system import System, script
from bench.systems import find
from bench.workers import Workers, running

Part = tuple[str, tuple[str, ...]]

STEPS: Sequence[Part] = (
    ("parent: looking for events, or waiting", ("poll (kombu/utils/eventio", )),
    ("pool: verify and decode", ("verify (reliable_tasks/worker/call", "decode (reliable_tasks/worker/call",
                                 "delivery_of (reliable_tasks/worker/call")),
    ("pool: claim", ("claim (reliable_tasks/worker/steps",)),
    ("pool: result backend of Celery", ("(celery/backends/",)),
    ("pool: execute", ("execute (reliable_tasks/worker/execution", "trace_task (celery/app/trace")),
    ("pool: record", ("record (reliable_tasks/worker/steps",)),
    ("pool: begin and commit", ("steps_for (", "__exit__ (contextlib", "__enter__ (contextlib",
                                "process (reliable_tasks/worker/delivery")),
    ("pool: around the delivery", ("trace (reliable_tasks/worker/trace", "fast_trace_task (")),
    ("pool: pipe", ("workloop (billiard/pool",)),
    ("parent: receive", ("receive (reliable_tasks/worker/strategy", "task_message_handler (celery/worker/strategy",
                         "on_task_received (")),
    ("parent: settle", ("settle (reliable_tasks/worker/request", "on_success (celery/worker/request",
                        "_answer (reliable_tasks/worker/request")),
    ("parent: results from the pool", ("_event_process_exit", "on_result_readable", "handle_result_event",
                                       "_process_result")),
    ("parent: pipe to the pool", ("(billiard/", "(celery/concurrency/asynpool")),
    ("parent: frames of the broker", ("(amqp/", "(kombu/transport/pyamqp")),
    ("parent: loop", ("asynloop (", "create_loop (")),
)  # fmt: skip
"""A frame is "function (file:line)"; the first part that any frame of a stack matches has the sample."""

LIBRARIES: Sequence[Part] = (
    (
        "driver: execute",
        ("do_execute (", "do_executemany (", "execute (psycopg2", "execute_values (psycopg2"),
    ),
    ("driver: commit", ("do_commit (",)),
    ("driver: ping", ("do_ping (", "_do_ping_w_event (")),
    ("driver: rollback, reset", ("do_rollback (", "_reset (")),
    ("driver: connect", ("do_connect (", "connect (psycopg2")),
    ("SQLAlchemy", ("(sqlalchemy/",)),
    ("json, serializers", ("(json/", "(kombu/utils/json", "(kombu/serialization", "(msgspec", "pickle")),
    ("billiard", ("(billiard/",)),
    ("amqp", ("(amqp/",)),
    ("kombu", ("(kombu/",)),
    ("celery: trace", ("(celery/app/trace",)),
    ("celery: worker", ("(celery/worker/",)),
    ("celery: backends", ("(celery/backends/",)),
    ("celery", ("(celery/",)),
    ("reliable_tasks: worker", ("(reliable_tasks/worker/",)),
    ("reliable_tasks: store", ("(reliable_tasks/store/",)),
    ("reliable_tasks", ("(reliable_tasks/",)),
    ("the task", ("(bench/",)),
)


def add_options(commands: Any) -> None:
    """The subcommand."""
    one = commands.add_parser("profile", help="where the workers' CPU goes, by step and by library")
    one.set_defaults(command=_run)
    one.add_argument("system", nargs="?", default="ours-none-prefork2")
    one.add_argument("--tasks", type=int, default=4000)
    one.add_argument("--seconds", type=int, default=6)
    one.add_argument("--rate", type=int, default=200, help="samples a second")
    one.add_argument("--idle", action="store_true", help="wall clock instead of CPU")
    one.add_argument("--broker", default="")


def _run(options: argparse.Namespace) -> None:
    system = find(options.system)
    if reason := system.unavailable():
        raise SystemExit(f"{system.name}: {reason}")
    with services(broker=options.broker, redis="redis" in (system.broker, system.result_store)):
        try:
            system.reset()
            produce(system, "fill", 0, options.tasks)
            system.published = options.tasks
            with running(system) as workers:
                for line in _profile(system, workers, options):
                    sys.stdout.write(line + "\n")
        finally:
            system.close()
            clean.drop_database(system.database)


def _profile(system: System, workers: Workers, options: argparse.Namespace) -> Iterator[str]:
    while system.done() < options.tasks // 20:
        workers.check()
        time.sleep(0.05)  # between questions to the store
    pids = descendants(workers.pids)
    with tempfile.TemporaryDirectory() as folder:
        before, done, began = {pid: cpu_seconds([pid]) for pid in pids}, system.done(), time.monotonic()
        spies = [_spy(pid, Path(folder), options) for pid in pids]
        for spy in spies:
            spy.wait(options.seconds * 10)
        taken, count = time.monotonic() - began, max(system.done() - done, 1)
        cpu = sum(cpu_seconds([pid]) - before[pid] for pid in pids)
        stacks = [stack for pid in pids for stack in _stacks(Path(folder) / str(pid))]
    yield (
        f"{system.name}: {count} tasks in {taken:.1f} s, {cpu / count * 1e6:.0f} us of CPU each, "
        f"{len(pids)} processes, {len(stacks)} samples"
        + (" of everything, waiting included" if options.idle else "")
        + ("; the queue ran dry: give more --tasks" if system.done() >= options.tasks else "")
    )
    yield from ("", _counted("step", stacks, _step, cpu / count), "")
    yield _counted("library", stacks, _library, cpu / count)


def _counted(title: str, stacks: list[list[str]], part: Any, each: float) -> str:
    counts = Counter(map(part, stacks))
    shares = [(name, samples / len(stacks)) for name, samples in counts.most_common(16)]
    rows = [(name, f"{share * 100:.1f} %", f"{share * each * 1e6:.0f}") for name, share in shares]
    return table((title, "share", "us a task"), rows)


def _step(stack: list[str]) -> str:
    return next((name for name, marks in STEPS if any(_has(frame, marks) for frame in stack)), "elsewhere")


def _library(stack: list[str]) -> str:
    return next(
        (name for frame in reversed(stack) for name, marks in LIBRARIES if _has(frame, marks)), "elsewhere"
    )


def _has(frame: str, marks: tuple[str, ...]) -> bool:
    return any(mark in frame for mark in marks)


def _spy(pid: int, folder: Path, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    target = ["-d", str(options.seconds), "-r", str(options.rate), "-f", "raw", "-o", str(folder / str(pid))]
    command = script("py-spy", "record", "-p", str(pid), *target, *(["--idle"] if options.idle else []))
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )


def _stacks(file: Path) -> Iterator[list[str]]:
    """One stack for each sample, outermost frame first."""
    if not file.exists():
        return
    for line in file.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        for _ in range(int(samples)):
            yield stack.split(";")
