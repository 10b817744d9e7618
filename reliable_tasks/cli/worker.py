"""`reliable-tasks worker` and `services`: the processes that do the work."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import rich_click as click

from reliable_tasks.cli.context import load_app, settings_options
from reliable_tasks.cli.output import say
from reliable_tasks.errors import SettingError
from reliable_tasks.settings import Settings


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@settings_options()
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="Run N nodes of one process each, for short tasks.",
)
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
def worker(settings: Settings, processes: int | None, celery_options: tuple[str, ...]) -> None:
    """Run the Celery worker of the application.

    What follows goes to `celery worker` as it is: --concurrency 4, -Q payments, --loglevel INFO, ...

    With --processes it is the supervisor of N such workers. Signals go to it alone: SIGTERM lets tasks end, SIGQUIT
    does not; they are passed on to all. A node that dies is started again.
    """
    app = load_app(settings)
    if settings.app is None:
        raise SettingError(
            "no application is named", hint="put -A module:app behind `worker`, or use `celery worker`"
        )
    if any(word.partition("=")[0] == "--processes" for word in celery_options):
        raise click.UsageError("--processes must come before Celery's options")
    if processes is not None:
        raise SystemExit(_run_many(settings, app, settings.app, processes, celery_options))
    sys.stdout.flush()
    # the celery program itself, in this process: its exit code, its signals, its early patching for -P gevent
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", settings.app, "worker", *celery_options])


def _run_many(settings: Settings, app: Any, name: str, count: int, celery_options: Sequence[str]) -> int:
    from reliable_tasks.app import ReliableCelery
    from reliable_tasks.observe.logs import StructuredFormatter, format_of
    from reliable_tasks.worker.many_nodes import run_many

    if not isinstance(app, ReliableCelery):
        raise SettingError(
            f"{name} is no ReliableCelery: its time limits and heartbeats would be lost",
            hint="leave --processes out, or make it a ReliableCelery",
        )
    # a handler of its own: what the root logger has, each node would inherit
    log, handler = logging.getLogger("reliable_tasks.supervisor"), logging.StreamHandler()
    handler.setFormatter(StructuredFormatter(format_of(settings.log_format) or "console"))
    log.addHandler(handler)
    log.propagate = False
    return run_many(app, name, count, celery_options, log)


@click.command()
@settings_options()
@click.option(
    "--only", multiple=True, metavar="LOOP", help="Only this loop (relay, collector, sweeper); repeatable."
)
def services(settings: Settings, only: tuple[str, ...]) -> None:
    """Run the loops: outbox relay, dead-letter collector, sweeper."""
    from reliable_tasks import services as loops
    from reliable_tasks.observe.logs import configure_logging, format_of

    configure_logging(format_of(settings.log_format) or "console")

    app = load_app(settings)
    say("services: " + (", ".join(only) if only else "all loops"))
    loops.run(settings, app, only=list(only) or None)
