"""The demo: real orders, real faults, and a count of what was lost or done twice."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from examples.payments import control_run, reliable_run
from examples.payments.driving import Say
from examples.payments.orders import generate, read_orders
from examples.payments.workload import Workload, make_workload
from reliable_tasks.dev import Stack, default_folder, throwaway_stack
from reliable_tasks.errors import InputFileError, OperationRefused

KEPT = "kept-because-it-failed"


def run_demo(
    orders_file: Path | None, count: int, seed: int, *, faults: bool, keep: bool, say: Say
) -> dict[str, Any]:
    """Run everything and return the report.

    Args:
        orders_file: orders to pay; without it, `count` orders are made from the seed.
        keep: leave broker and database running where `reliable-tasks dev` finds them.

    Raises:
        InputFileError: when the file cannot be used.
        ServiceStartError: when the private services do not start.
        OperationRefused: when the services to be kept hold other data.
    """
    started = time.monotonic()
    workload = load_workload(orders_file, count, seed, faults=faults)
    for error in workload.bad_lines:
        say(f"  skipped: {error}")
    with _stack(keep, say) as stack, _folder(say) as folder:
        say(
            f"{len(workload.orders)} orders, {workload.amount} in all, sent as {workload.deliveries} messages"
        )
        report = reliable_run.run(stack, folder / "reliable", workload, seed, faults=faults, say=say)
        say(
            f"reliable_tasks: {'PASS' if report['passed'] else 'FAIL'} after {time.monotonic() - started:.0f} s"
        )
        say("the same orders and faults on plain Celery")
        report["control"] = control_run.run(stack, folder / "control", workload, seed, faults=faults, say=say)
        report["versions"] = _versions(stack)
        if not report["passed"]:
            (folder / KEPT).touch()
    report["seed"] = seed
    report["seconds"] = round(time.monotonic() - started, 1)
    report["passed"] = report.pop("passed")
    return report


def load_workload(orders_file: Path | None, count: int, seed: int, *, faults: bool) -> Workload:
    """The orders of the file or of the seed, with everything that is put among them.

    Raises:
        InputFileError: when the file cannot be used or holds no order.
    """
    if orders_file is None:
        return make_workload(generate(count, seed), seed, faults=faults)
    found = read_orders(orders_file)
    if not found.orders:
        raise InputFileError(f"the order file {orders_file} holds no order", hint="give one with orders")
    return make_workload(found.orders, seed, faults=faults, errors=[error.message for error in found.errors])


@contextmanager
def _stack(keep: bool, say: Say) -> Iterator[Stack]:
    say("starting a private RabbitMQ and Postgres")
    if not keep:
        with throwaway_stack(fsync=True) as stack:
            yield stack
        return
    stack = Stack.up(default_folder(), progress=say)
    _refuse_used(stack)
    yield stack


def _refuse_used(stack: Stack) -> None:
    engine = create_engine(stack.database_url)
    with engine.connect() as connection:
        used = connection.execute(
            text(
                "SELECT to_regclass('bank.ledger') IS NOT NULL OR to_regclass('reliable_tasks.results') IS NOT NULL"
            )
        ).scalar_one()
    engine.dispose()
    if used:
        raise OperationRefused(
            f"the services in {stack.folder} hold data already, and the demo counts everything there is",
            hint="remove them with `reliable-tasks dev down`, or run the demo without --keep",
        )


@contextmanager
def _folder(say: Say) -> Iterator[Path]:
    """Where the programs of the run write; kept when it does not end as promised."""
    folder = Path(tempfile.mkdtemp(prefix="reliable-tasks-demo-"))
    for name in ("reliable", "control"):
        (folder / name).mkdir()
    try:
        yield folder
    except BaseException:
        say(f"the logs are in {folder}")
        raise
    if (folder / KEPT).exists():
        say(f"the logs are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _versions(stack: Stack) -> dict[str, str]:
    found = {
        "python": sys.version.split()[0],
        "rabbitmq": stack.rabbitmq_version,
        "postgres": stack.postgres_version,
    }
    for name in ("celery", "kombu", "reliable-tasks"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
