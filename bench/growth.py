"""Growth curves: the same work beside a longer queue, a fuller table, more workers; and memory over many tasks.

    python -m bench growth queue --sizes 1000,10000,100000,1000000 --rounds 10
    python -m bench growth table --sizes 100000,1000000,10000000 --rounds 10
    python -m bench growth workers --sizes 1,2,4,8
    python -m bench growth memory --sizes 1000000

Sizes are interleaved, round after round. What is compared is what a thousand tasks cost; rates drift more.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from bench import clean
from bench.counters import Servers, memory_mib, servers
from bench.measuring import Record, Sizes, drain
from bench.producing import produce
from bench.report import table
from bench.rounds import say
from bench.services import services
from bench.systems import find
from bench.systems.ours import Ours
from bench.workers import running

SIZES = {
    "queue": "1000,10000,100000",
    "table": "10000,100000,1000000",
    "workers": "1,2,4,8",
    "memory": "100000",
}
FIELDS = (
    "rate",
    "worker_cpu_s_per_1k",
    "postgres_cpu_s_per_1k",
    "rabbitmq_cpu_s_per_1k",
    "wal_bytes_per_task",
    "pss_mib",
)
_SAMPLES = 20


def add_options(commands: Any) -> None:
    """The subcommand."""
    one = commands.add_parser("growth", help="curves over queue length, table size, workers; memory")
    one.set_defaults(command=_run)
    one.add_argument("curve", choices=tuple(SIZES))
    one.add_argument("--sizes", default="", help="with commas")
    one.add_argument("--system", default="ours-none-prefork2", help="a configuration of ours")
    one.add_argument("--tasks", type=int, default=2000, help="done in each measurement")
    one.add_argument("--rounds", type=int, default=3)
    one.add_argument("--broker", default="")
    one.add_argument("--output", choices=("table", "json"), default="table")


def _run(options: argparse.Namespace) -> None:
    sizes = [int(size) for size in (options.sizes or SIZES[options.curve]).split(",")]
    measure = {"queue": _queue, "table": _table, "workers": _workers}.get(options.curve)
    with services(broker=options.broker):
        if measure is None:
            rows = _memory(of_ours(options.system), sizes[-1])
            _tell(options, [f"after {done} tasks" for done, _ in rows], [{"pss_mib": pss} for _, pss in rows])
            return
        records = _rounds(measure, options, sizes)
    _tell(options, [str(size) for size in sizes], [_middle(records[size]) for size in sizes])


def _rounds(
    measure: Callable[[Ours, int, int, Servers], Record], options: argparse.Namespace, sizes: list[int]
) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {size: [] for size in sizes}
    for number in range(options.rounds):
        for size in sizes if number % 2 == 0 else reversed(sizes):
            system = of_ours(options.system)
            try:
                found[size].append(measure(system, size, options.tasks, servers(clean.administrator())))
            finally:
                system.close()
                clean.drop_database(system.database)
            say(f"round {number + 1}, {options.curve} {size}: {json.dumps(found[size][-1])}")
    return found


def _queue(system: Ours, size: int, tasks: int, counted: Servers) -> Record:
    """So many tasks of a longer queue."""
    system.reset()
    return _filled(system, max(size, tasks), tasks, counted)


def _table(system: Ours, size: int, tasks: int, counted: Servers) -> Record:
    """So many tasks beside older rows."""
    system.reset()
    system.age(size)
    return _filled(system, tasks, tasks, counted)


def _workers(system: Ours, size: int, tasks: int, counted: Servers) -> Record:
    """By more or fewer workers."""
    more = of_ours(f"{system.name.rstrip('0123456789')}{size}")
    more.database = system.database
    more.reset()
    return _filled(more, tasks, tasks, counted)


def _filled(system: Ours, published: int, tasks: int, counted: Servers) -> Record:
    produce(system, "fill", 0, published)
    system.published = published
    record = drain(system, tasks, Sizes(limit=600), counted)
    system.close()
    return record


def _memory(system: Ours, tasks: int) -> list[tuple[int, float]]:
    """PSS of the workers after each twentieth of the tasks."""
    samples: list[tuple[int, float]] = []
    try:
        system.reset()
        produce(system, "fill", 0, tasks)
        with running(system) as workers:
            while len(samples) < _SAMPLES:
                workers.check()
                done = system.done()
                if done >= tasks * (len(samples) + 1) / _SAMPLES:
                    samples.append((done, round(memory_mib(workers.pids)[1], 1)))
                    say(f"{done} tasks: {samples[-1][1]} MiB")
                time.sleep(0.2)  # between questions, each a count
    finally:
        system.close()
        clean.drop_database(system.database)
    return samples


def of_ours(name: str) -> Ours:
    """A configuration of ours that can be run here."""
    system = find(name)
    if not isinstance(system, Ours):
        raise SystemExit(f"growth curves are of ours, and {name} is not")
    if reason := system.unavailable():
        raise SystemExit(f"{name}: {reason}")
    return system


def _middle(records: list[Record]) -> Record:
    return {field: round(median(one[field] for one in records), 4) for field in FIELDS} | {
        "rounds": len(records)
    }


def _tell(options: argparse.Namespace, names: list[str], records: list[Record]) -> None:
    if options.output == "json":
        curve = dict(zip(names, records, strict=True))
        sys.stdout.write(
            json.dumps({"curve": options.curve, "system": options.system, "points": curve}) + "\n"
        )
        return
    head = list(records[0])
    rows = [
        (name, *(f"{record[field]:g}" for field in head)) for name, record in zip(names, records, strict=True)
    ]
    sys.stdout.write(table((options.curve, *head), rows) + "\n")
