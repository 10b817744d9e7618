"""The command line: `python -m bench WHAT`, with WHAT as `python -m bench -h` lists it. See the Makefile."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from os import getloadavg

from bench import growth, loaded, outage, page, profiling
from bench.choice import entries_of
from bench.configuration import configuration
from bench.entries import Entry, Whole
from bench.measuring import Sizes
from bench.report import report_of, text_of
from bench.rounds import run_rounds, say
from bench.services import LOGS, services
from bench.systems import systems

QUICK_MINUTES, FULL_MINUTES = 4.5, 180.0
"""No round begins that would end later."""


def main() -> int:
    """Run a subcommand."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    try:
        answer: int | None = options.command(options)
    except KeyboardInterrupt:
        return 130
    return answer or 0


def _measure(options: argparse.Namespace) -> int:
    """1 when nothing of ours was measured."""
    sizes = Sizes(
        published=options.published,
        share=options.share,
        seconds=options.seconds,
        calls=options.calls,
        chord=options.chord,
    )
    entries = entries_of(options.kind, sizes, options.only)
    available = [entry for entry in entries if not entry.unavailable()]
    LOGS.mkdir(parents=True, exist_ok=True)
    began = datetime.now(UTC)
    file = LOGS.parent / f"{options.kind}-{began:%Y%m%dT%H%M%S}.jsonl"
    with services(broker=options.broker, redis=_needs_redis(available)) as stack:
        told = configuration(
            stack,
            entries,
            kind=options.kind,
            at=began.strftime("%Y-%m-%d %H:%M UTC"),
            full=options.kind == "full" and not options.only and options.share >= 1,
            sizes=asdict(sizes),
        )
        say(
            f"RabbitMQ {stack.rabbitmq_version}, Postgres {stack.postgres_version}; {len(available)} entries a round"
        )
        records = run_rounds(available, options.rounds, options.minutes, file)
    told["load_average_after"] = [round(one, 1) for one in getloadavg()]
    report = report_of(records, told)
    kept = f"{options.kind}-only.json" if options.only else f"{options.kind}.json"
    (LOGS.parent / kept).write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(json.dumps(report) + "\n" if options.output == "json" else text_of(report))
    return 0 if report["figures"]["worker_cpu_s_per_1k"] is not None else 1


def _needs_redis(entries: Sequence[Entry]) -> bool:
    return any(
        "redis" in (entry.system.broker, entry.system.result_store)
        for entry in entries
        if isinstance(entry, Whole)
    )


def _list(_options: argparse.Namespace) -> None:
    for name, system in systems().items():
        sys.stdout.write(f"{name:32} {system.about}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for kind, rounds, minutes in (("quick", 5, QUICK_MINUTES), ("full", 5, FULL_MINUTES)):
        one = commands.add_parser(
            kind, help="ours beside " + ("four peers" if kind == "quick" else "all peers")
        )
        one.set_defaults(command=_measure, kind=kind)
        one.add_argument("--rounds", type=int, default=rounds)
        one.add_argument(
            "--minutes", type=float, default=minutes, help="no round begins that would end later"
        )
        one.add_argument("--only", default="", help="configurations, with commas, whatever the kind says")
        one.add_argument("--share", type=float, default=1.0, help="of the tasks of a first round")
        one.add_argument(
            "--seconds", type=float, default=3.0 if kind == "quick" else 5.0, help="a drain should last"
        )
        one.add_argument(
            "--published", type=int, default=800, help="tasks that are sent one by one and timed"
        )
        one.add_argument("--calls", type=int, default=300, help="single calls timed")
        one.add_argument("--chord", type=int, default=1000, help="tasks of a chord's header")
        one.add_argument("--output", choices=("table", "json"), default="table")
        one.add_argument("--broker", default="", help="a series of RabbitMQ, as in 4.3")
    growth.add_options(commands)
    loaded.add_options(commands)
    outage.add_options(commands)
    profiling.add_options(commands)
    page.add_options(commands)
    commands.add_parser("list", help="all configurations").set_defaults(command=_list)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
