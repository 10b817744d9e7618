"""What an outage costs: `python -m bench outage --of database --seconds 60`, in the midst of a full queue.

The rate before and after it is counted second by second, by the times of the tasks; the outage ends when the service
answers again. Afterwards everything that was sent is counted: what is missing, and what was done twice.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench import clean
from bench.depth import ready
from bench.growth import of_ours
from bench.measuring import Record
from bench.producing import produce
from bench.report import table
from bench.rounds import say
from bench.services import services
from bench.systems.ours import Ours
from bench.workers import running
from reliable_tasks.dev import Stack

ENOUGH = 0.8
"""Of the rate before, which is what `recovered_seconds` waits for."""

_BEFORE_SECONDS, _AFTER_SECONDS = 15, 25
_LIMIT_SECONDS = 900
QUEUES = ("bench", "pure")


@dataclass(frozen=True)
class Outage:
    """When a service was taken away, and when it answered again; seconds since the epoch."""

    began: float
    ended: float


def add_options(commands: Any) -> None:
    """The subcommand."""
    one = commands.add_parser("outage", help="a service goes away under full load, and comes back")
    one.set_defaults(command=_run)
    one.add_argument("--of", choices=("database", "broker"), default="database")
    one.add_argument("--seconds", type=float, default=60.0)
    one.add_argument("--system", default="ours-none-processes2", help="a configuration of ours")
    one.add_argument("--tasks", type=int, default=300_000, help="enough for forty seconds of full load")
    one.add_argument("--broker", default="")
    one.add_argument("--output", choices=("table", "json"), default="table")


def _run(options: argparse.Namespace) -> int:
    """1 when anything is missing, or was done twice."""
    system = of_ours(options.system)
    with services(broker=options.broker) as stack:
        try:
            told = _measured(system, stack, options.of, options.seconds, options.tasks)
        finally:
            system.close()
            clean.drop_database(system.database)
    if options.output == "json":
        sys.stdout.write(json.dumps({"system": system.name, "of": options.of, **told}) + "\n")
    else:
        head = f"{options.of} away for {options.seconds:g} s, {system.name}"
        rows = [(name, "never" if value is None else f"{value:,}") for name, value in told.items()]
        sys.stdout.write(table((head, ""), rows) + "\n")
    return 1 if told["missing"] or told["twice"] or told["left_in_queues"] else 0


def _measured(system: Ours, stack: Stack, what: str, seconds: float, tasks: int) -> Record:
    system.reset()
    produce(system, "fill", 0, tasks)
    with running(system) as workers:
        _until(lambda: system.done() > 0)
        time.sleep(_BEFORE_SECONDS)  # full load, from which the rate before is taken
        outage = _without(stack, what, seconds)
        system.close()
        say(f"{what} was away for {outage.ended - outage.began:.1f} s")
        time.sleep(_AFTER_SECONDS)  # full load, from which the recovery is taken
        if system.done() >= tasks:
            raise SystemExit(f"{tasks} tasks are too few: all were done before the rate after it was known")
        _until(lambda: system.done() >= tasks)
        workers.check()
    system.verify(tasks)
    return {**_rates(system, outage), **_counted(system, tasks), "left_in_queues": ready(*QUEUES)}


def _without(stack: Stack, what: str, seconds: float) -> Outage:
    service = stack.database if what == "database" else stack.broker
    began = time.time()
    service.kill()
    time.sleep(seconds)  # the outage
    service.start()
    return Outage(began, time.time())


def _rates(system: Ours, outage: Outage) -> Record:
    """Tasks a second, before and after, by the second in which they have ended."""
    cursor = clean.connect(system.database).cursor()
    cursor.execute(
        "SELECT floor(extract(epoch FROM finished_at) - %s)::int, count(*) FROM reliable_tasks.results"
        " WHERE state = 'succeeded' GROUP BY 1",
        (outage.ended,),
    )
    by_second: dict[int, int] = dict(cursor.fetchall())
    length = outage.ended - outage.began
    # neither the second in which the workers began nor the one in which the service went away
    before = [count for second, count in sorted(by_second.items()) if second < -length - 1][2:]
    usual = median(before)
    after = {second: by_second.get(second, 0) for second in range(_AFTER_SECONDS)}
    back = [second + 1 for second, count in after.items() if count >= ENOUGH * usual]
    return {
        "rate_before": round(usual),
        "recovered_seconds": back[0] if back else None,
        "rate_after": round(median(list(after.values())[10:])),
    }


def _counted(system: Ours, tasks: int) -> Record:
    """What is missing of all that was sent, and what has more than one execution that counts."""
    cursor = clean.connect(system.database).cursor()
    cursor.execute(
        "SELECT count(*) FILTER (WHERE state = 'succeeded'), count(*), (SELECT count(*) FROM"
        " (SELECT FROM reliable_tasks.attempts WHERE state = 'succeeded' GROUP BY task_id HAVING count(*) > 1) more),"
        " (SELECT count(*) FROM reliable_tasks.attempts WHERE state = 'lost') FROM reliable_tasks.results"
    )
    succeeded, results, twice, lost_attempts = cursor.fetchone()
    return {
        "tasks": tasks,
        "missing": tasks - succeeded,
        "not_succeeded": results - succeeded,
        "twice": twice,
        "lost_attempts": lost_attempts,
    }


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + _LIMIT_SECONDS
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"it was not so within {_LIMIT_SECONDS} s")
        time.sleep(0.5)  # between questions, each a count
