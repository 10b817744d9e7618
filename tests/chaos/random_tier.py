"""`make chaos`: rounds of work under random faults, seed after seed, until the time is over; what they came to.

    python -m tests.chaos.random_tier [--seed N] [--minutes M] [--transfers N] [--broker 4.3] [--nodes 3] [--round N]

A round that was green is not run again: what is run adds up in tests/chaos/results.jsonl, from which `--table` prints
and `--write-docs` writes into docs/reliability.md. Schedules, histories and verdicts are kept in var/chaos.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reliable_tasks.dev.binaries import RABBITMQ_SBIN
from tests.broker_releases import install_firewall, programs_of
from tests.chaos import random_docs, random_results
from tests.chaos.random_place import NOT_ROOT, Place, into_namespace, place
from tests.chaos.random_round import Round
from tests.chaos.random_schedule import ROUNDS, Planned, schedule
from tests.programs import ROOT

SEEDS = range(1, 7)
TRANSFERS = 7000
"""In each round."""


def main() -> int:
    """Run; 1 when a round was red, or there was none."""
    options = _options()
    if options.write_docs or options.table:
        rounds = random_results.results()
        if options.write_docs:
            random_docs.write(rounds)
        _say(random_results.table(rounds), *random_results.totals(rounds))
        return 0
    install_firewall()
    into_namespace(str(__spec__.name))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid():
        _say(NOT_ROOT)
    if options.broker:
        try:
            os.environ[RABBITMQ_SBIN] = str(programs_of(options.broker))
        except LookupError as error:
            sys.exit(f"RabbitMQ {options.broker}: {error}")
    # the small disk is still in use when it is given up: it goes with the namespace
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        return _run(options, Path(folder))


def _run(options: argparse.Namespace, folder: Path) -> int:
    end = time.monotonic() + options.minutes * 60
    done: list[dict[str, Any]] = []
    with place(folder, options.nodes) as where:
        for planned in _rounds(options, where):
            longest = max((one["seconds"] for one in done), default=0.0)
            if time.monotonic() + longest > end:
                break
            logs = folder / f"seed-{planned.seed}-round-{planned.number}"
            logs.mkdir()
            done.append(Round(where, planned, options.transfers, logs).play())
            random_results.append(done[-1])
            kept = random_results.keep(logs, f"{where.broker.split(',')[0]}-{logs.name}", done[-1])
            _tell(done[-1], kept)
            shutil.rmtree(logs)
    _say(random_results.table(done), *random_results.totals(random_results.results()))
    return 1 if not done or any(one["red"] for one in done) else 0


def _rounds(options: argparse.Namespace, where: Place) -> Iterator[Planned]:
    """All of the first seed, which has every fault; then a round of each seed in turn."""
    first = options.seeds[0]
    rounds = [planned for seed in options.seeds for planned in schedule(seed)]
    for planned in sorted(rounds, key=lambda one: (one.seed != first, one.number, one.seed)):
        known = random_results.green(planned.seed, where.broker, options.transfers)
        if planned.number == options.round or (options.round is None and planned.number not in known):
            yield planned


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", dest="seeds", type=lambda text: [int(text)], default=list(SEEDS))
    parser.add_argument(
        "--round", type=int, choices=range(ROUNDS), help="only this one, also when it was green"
    )
    parser.add_argument("--minutes", type=float, default=60, help="no round begins that would end later")
    parser.add_argument("--transfers", type=int, default=TRANSFERS, help="in each round")
    parser.add_argument("--broker", default="", help="a series, as in 4.3; the installed one by default")
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="of the broker; three need 4.x")
    parser.add_argument("--table", action="store_true", help="print what all runs came to")
    parser.add_argument("--write-docs", action="store_true", help="write it into docs/reliability.md")
    return parser.parse_args()


def _tell(result: dict[str, Any], kept: Path) -> None:
    _say(
        f"seed {result['seed']} round {result['round']}: {'RED' if result['red'] else 'green'}, "
        f"{result['transfers']} transfers in {result['seconds']:.0f} s, {len(result['faults'])} faults, "
        f"drained in {result['drained']:.0f} s; {kept.relative_to(ROOT)}",
        *(f"   never fired in its window: {one['name']}" for one in result["faults"] if not one["fired"]),
        *(f"   not possible here: {name}" for name in result["skipped"]),
        *([result["table"]] if result["red"] else []),
    )


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
