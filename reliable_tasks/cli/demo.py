"""`reliable-tasks demo`: pays orders under faults with services of its own, and prints what came of it."""

import shlex
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import rich_click as click

from reliable_tasks.cli.output import plain, print_record, print_rows, say
from reliable_tasks.errors import ConfigurationError

DEMO = "examples.payments.demo"
APP = "examples.payments.app:app"
OURS, PLAIN = "reliable_tasks", "plain Celery"
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
    if output == "json":
        print_record(report, output)
    else:
        _print_tables(report)
    for failure in report["failures"]:
        say(f"not kept: {failure}")
    if keep:
        say('look around:  eval "$(reliable-tasks dev env)"')
        say(f"              {_application(module)}")
        say("              reliable-tasks results stats · dead-letters list · topology plan · doctor")
        say("              and at last: reliable-tasks dev down")
    say(f"{'PASS' if report['passed'] else 'FAIL'} in {report['seconds']} s")
    if not report["passed"]:
        ctx.exit(1)


def _with_time() -> Callable[[str], None]:
    started = time.monotonic()
    return lambda text: say(f"{time.monotonic() - started:6.1f} s  {text}")


def _application(module: Any) -> str:
    """What leads other commands to the demo's application; its folder too, unless they run there anyway."""
    root = Path(module.__file__).resolve().parents[2]
    path = "" if root == Path.cwd() else f" PYTHONPATH={shlex.quote(str(root))}"
    return f"export RELIABLE_TASKS_APP={APP}{path}"


def load_demo() -> Any:
    """The demo's module, from the installed package or from the checkout that this program runs from."""
    package = Path(__file__).resolve().parent.parent
    for root in (package / "_examples", package.parent):
        if (root / "examples" / "payments" / "demo.py").is_file():
            sys.path.insert(0, str(root))
            return import_module(DEMO)
    raise ConfigurationError("the demo's code is not installed", hint="install the package anew")


def _print_tables(report: dict[str, Any]) -> None:
    control = report["control"]
    rows = [{"": name, OURS: report[name], PLAIN: control.get(name)} for name in SHOWN]
    rows += [
        {"": "failed without a way back", OURS: 0, PLAIN: control["failed_without_way_back"]},
        *(
            {"": name, OURS: _words(report[name]), PLAIN: _words(control.get(name))}
            for name in ("kills", "restarts")
        ),
        *(
            {"": name, OURS: _words(report[name]), PLAIN: None}
            for name in ("unfunded", "bad_lines", "versions")
        ),
    ]
    print_rows(rows, ("", OURS, PLAIN), "table")
    settings = [{"setting": name, "value": plain(value)} for name, value in control["settings"].items()]
    print_rows(settings, ("setting", "value"), "table")


def _words(value: Any) -> str:
    return (
        ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else str(value)
    )
