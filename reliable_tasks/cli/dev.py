"""`reliable-tasks dev`: private RabbitMQ and Postgres for development, without Docker and without root."""

import shlex
import sys
from pathlib import Path
from typing import Any

import rich_click as click

from reliable_tasks.cli.output import output_option, print_record, say
from reliable_tasks.dev import Stack, default_folder
from reliable_tasks.errors import ServiceStartError
from reliable_tasks.settings.addresses import mask_url

NOT_RUNNING = 7

folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where the services keep everything; also RELIABLE_TASKS_STATE_DIR.",
)


@click.group("dev")
def dev() -> None:
    """Private RabbitMQ and Postgres on free loopback ports, from the installed binaries."""


@dev.command("up")
@folder_option
@click.option(
    "--fsync/--no-fsync", default=True, show_default=True, help="Whether a new Postgres keeps data safely."
)
@output_option
def up(folder: Path | None, fsync: bool, output: str) -> None:
    """Start both services, or say where they run already."""
    stack = Stack.up(folder or default_folder(), fsync=fsync, progress=say)
    print_record(_addresses(stack, hide=output == "table"), output)
    if output == "table":
        say(f'for this shell, with the passwords: eval "$(reliable-tasks dev env{_same(folder)})"')


@dev.command("env")
@folder_option
def env(folder: Path | None) -> None:
    """Print the settings of the running services, also for `psql`, passwords included, for `eval` or a .env file."""
    for name, value in _running(folder).shell_environment().items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


@dev.command("status")
@folder_option
@output_option
@click.pass_context
def status(ctx: click.Context, folder: Path | None, output: str) -> None:
    """Show what runs; exit code 7 when not both do."""
    found = Stack.find(folder or default_folder())
    if found is None:
        print_record({"folder": folder or default_folder(), "state": "absent"}, output)
        ctx.exit(NOT_RUNNING)
    state = found.status
    record = {
        "folder": state.folder,
        "state": "running" if state.running else "stopped",
        "broker": state.broker,
        "database": state.database,
        **_addresses(found, hide=output == "table"),
    }
    print_record(record, output)
    if not state.running:
        ctx.exit(NOT_RUNNING)


@dev.command("down")
@folder_option
@click.option("--keep-data", is_flag=True, help="Keep queues and tables for the next `up`.")
def down(folder: Path | None, keep_data: bool) -> None:
    """End both services and, unless told otherwise, remove their data."""
    place = folder or default_folder()
    stack = Stack.find(place)
    if stack is None:
        say(f"nothing to end in {place}")
        return
    stack.down(keep=keep_data)
    say(f"ended; the data is kept in {place}" if keep_data else "ended; the data is removed")


def _running(folder: Path | None) -> Stack:
    place = folder or default_folder()
    stack = Stack.find(place)
    if stack is None or not stack.status.running:
        raise ServiceStartError(
            f"no services run in {place}", hint=f"start them: reliable-tasks dev up{_same(folder)}"
        )
    return stack


def _same(folder: Path | None) -> str:
    return f" --folder {shlex.quote(str(folder))}" if folder else ""


def _addresses(stack: Stack, *, hide: bool) -> dict[str, Any]:
    shape = mask_url if hide else str
    return {
        "broker_url": shape(stack.broker_url),
        "management_url": stack.management_url,
        "prometheus_url": stack.prometheus_url,
        "database_url": shape(stack.database_url),
        "rabbitmq_version": stack.rabbitmq_version,
        "postgres_version": stack.postgres_version,
        "folder": str(stack.folder),
    }
