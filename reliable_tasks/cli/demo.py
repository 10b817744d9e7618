"""`reliable-tasks demo`: pays orders under faults with services of its own, and prints what came of it."""

import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import rich_click as click

from reliable_tasks.cli.output import print_record, say
from reliable_tasks.errors import ConfigurationError

DEMO = "examples.payments.demo"
SHOWN = (
    "orders", "deliveries", "effects", "lost", "double", "debits", "credits", "bank_charges",
    "bank_charges_double", "bank_charges_missing", "duplicates_suppressed", "conflicts", "dead_letters",
    "replayed", "uncertain",
)  # fmt: skip


@click.command()
@click.option(
    "--orders",
    "orders_file",
    type=click.Path(path_type=Path),
    default=None,
    help="Tab- or comma-separated: order_id, account_id, bank_to, account_to, amount, purpose.",
)
@click.option(
    "--count",
    type=click.IntRange(min=20),
    default=600,
    show_default=True,
    help="Orders to make without a file.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Decides everything that is chosen.")
@click.option("--faults/--no-faults", default=True, show_default=True, help="Kill, restart and fail.")
@click.option(
    "--keep", is_flag=True, help="Leave RabbitMQ and Postgres running for `dev status`, `results`, ..."
)
@click.option("--output", type=click.Choice(("table", "json")), default="table", show_default=True)
@click.pass_context
def demo(
    ctx: click.Context, orders_file: Path | None, count: int, seed: int, faults: bool, keep: bool, output: str
) -> None:
    """Pay orders exactly once while everything fails, then do the same on plain Celery.

    Exit code 1 when an order was lost or paid twice.
    """
    module = load_demo()
    report = module.run_demo(orders_file, count, seed, faults=faults, keep=keep, say=_with_time())
    print_record(report if output == "json" else _summary(report), output)
    for failure in report["failures"]:
        say(f"not kept: {failure}")
    if keep:
        say('look around:  eval "$(reliable-tasks dev env)"')
        say("              reliable-tasks results stats · dead-letters list · topology plan · doctor")
        say("              and at last: reliable-tasks dev down")
    say(f"{'PASS' if report['passed'] else 'FAIL'} in {report['seconds']} s")
    if not report["passed"]:
        ctx.exit(1)


def _with_time() -> Callable[[str], None]:
    started = time.monotonic()
    return lambda text: say(f"{time.monotonic() - started:6.1f} s  {text}")


def load_demo() -> Any:
    """The demo's module, from the installed package or from the checkout that this program runs from."""
    package = Path(__file__).resolve().parent.parent
    for root in (package / "_examples", package.parent):
        if (root / "examples" / "payments" / "demo.py").is_file():
            sys.path.insert(0, str(root))
            return import_module(DEMO)
    raise ConfigurationError("the demo's code is not installed", hint="install the package anew")


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    control = report["control"]
    lines = {name: f"{report[name]}   (plain Celery: {control.get(name, '-')})" for name in SHOWN}
    rest = ("unfunded", "bad_lines", "kills", "restarts", "versions", "seconds", "passed")
    return {
        **lines,
        **{name: report[name] for name in rest},
        "plain Celery failed without way back": control["failed_without_way_back"],
        "plain Celery's settings": control["settings"],
    }
