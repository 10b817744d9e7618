"""`reliable-tasks worker` and `services`: the processes that do the work."""

import os
import sys

import rich_click as click

from reliable_tasks.cli.context import load_app, settings_options
from reliable_tasks.cli.output import say
from reliable_tasks.errors import SettingError
from reliable_tasks.settings import Settings


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@settings_options()
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
def worker(settings: Settings, celery_options: tuple[str, ...]) -> None:
    """Run the Celery worker of the application.

    What follows goes to `celery worker` as it is: --concurrency 4, -Q payments, --loglevel INFO, ...
    """
    load_app(settings)
    if settings.app is None:
        raise SettingError(
            "no application is named", hint="put -A module:app behind `worker`, or use `celery worker`"
        )
    sys.stdout.flush()
    # the celery program itself, in this process: its exit code, its signals, its early patching for -P gevent
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", settings.app, "worker", *celery_options])


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
