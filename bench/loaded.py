"""Latency beside other work: `python -m bench latency --loads 0,50` asks for results at half of the drain's rate.

The rate is measured first, in the same place; then a second producer sends at a share of it while calls are timed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench import clean
from bench.counters import servers
from bench.growth import of_ours
from bench.measuring import Record, Sizes, drain, summary
from bench.producing import produce
from bench.report import table
from bench.rounds import say
from bench.services import services
from bench.system import RATE, ROOT, python
from bench.systems.ours import Ours
from bench.workers import running

_FOREVER_SECONDS = 600
_SETTLE_SECONDS = 2


def add_options(commands: Any) -> None:
    """The subcommand."""
    one = commands.add_parser("latency", help="enqueue to result, idle and beside other work")
    one.set_defaults(command=_run)
    one.add_argument("--loads", default="0,50", help="per cent of the drain's rate, with commas")
    one.add_argument("--system", default="ours-none-prefork2", help="a configuration of ours")
    one.add_argument("--tasks", type=int, default=2000, help="of the drain that tells the rate")
    one.add_argument("--calls", type=int, default=200)
    one.add_argument("--broker", default="")
    one.add_argument("--output", choices=("table", "json"), default="table")


def _run(options: argparse.Namespace) -> None:
    system, told = of_ours(options.system), {}
    with services(broker=options.broker):
        try:
            rate = _drain_rate(system, options.tasks)
            for load in map(int, options.loads.split(",")):
                told[f"{load} %"] = _latency(system, rate * load / 100, options.calls)
                say(f"{load} % of {rate:.0f}/s: {json.dumps(told[f'{load} %'])}")
        finally:
            system.close()
            clean.drop_database(system.database)
    if options.output == "json":
        sys.stdout.write(json.dumps({"system": system.name, "rate": rate, "latency": told}) + "\n")
        return
    rows = [(load, *map(str, one.values())) for load, one in told.items()]
    sys.stdout.write(table((f"load of {rate:.0f}/s", *next(iter(told.values()))), rows) + "\n")


def _drain_rate(system: Ours, tasks: int) -> float:
    system.reset()
    produce(system, "fill", 0, tasks)
    system.published = tasks
    return float(drain(system, tasks, Sizes(), servers(clean.administrator()))["rate"])


def _latency(system: Ours, rate: float, calls: int) -> Record:
    system.close()
    system.reset()
    with running(system), _paced(system, rate):
        time.sleep(_SETTLE_SECONDS)  # until the load has come to its rate
        return summary(produce(system, "latency", 10**9, calls))


@contextmanager
def _paced(system: Ours, rate: float) -> Iterator[None]:
    """Something that sends at this rate until the block ends."""
    if not rate:
        yield
        return
    count = str(int(rate * _FOREVER_SECONDS))
    process = subprocess.Popen(
        python("-m", "bench.producing", system.name, "paced", "0", count),
        env={**system.environment(), RATE: str(rate)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the paced producer ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait()
