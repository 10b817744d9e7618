"""`reliable-tasks results`: what ran, when, and how it ended."""

from typing import Any
from uuid import UUID

import rich_click as click

from reliable_tasks.cli.context import settings_options
from reliable_tasks.cli.output import output_option, print_record, print_rows, say
from reliable_tasks.model.states import TaskState
from reliable_tasks.operate import results as operate
from reliable_tasks.settings import Settings
from reliable_tasks.store.engine import create_engine

COLUMNS = (
    "task_id",
    "name",
    "state",
    "reason",
    "queue",
    "attempt",
    "replay",
    "idempotency_key",
    "enqueued_at",
    "started_at",
    "finished_at",
)
STATISTICS_COLUMNS = ("name", "state", "count", "average_seconds", "first_finished_at", "last_finished_at")
EVENT_COLUMNS = ("at", "event", "detail", "who")


@click.group()
def results() -> None:
    """What ran, when, and how it ended."""


@results.command("list")
@settings_options()
@click.option("--state", type=click.Choice([state.value for state in TaskState]), help="Only in this state.")
@click.option("--task", "name", metavar="NAME", help="Only of this task.")
@click.option("--key", help="Only with this idempotency key.")
@click.option("--before", type=click.UUID, metavar="ID", help="Go on before this result id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output_option
def list_command(
    settings: Settings,
    state: str | None,
    name: str | None,
    key: str | None,
    before: UUID | None,
    limit: int,
    output: str,
) -> None:
    """List results, newest first."""
    found = operate.page(_engine(settings), state=state, name=name, key=key, before=before, limit=limit)
    print_rows(found, COLUMNS, output)
    if len(found) == limit:
        say(f"hint: there may be more: --before {found[-1]['id']}")
    elif not found:
        say("no results")


@results.command("show")
@settings_options()
@click.argument("task_id")
@output_option
def show_command(settings: Settings, task_id: str, output: str) -> None:
    """Show a task's result and its attempts."""
    print_record(operate.show(_engine(settings), task_id), output)


@results.command("timeline")
@settings_options()
@click.argument("task_id")
@output_option
def timeline_command(settings: Settings, task_id: str, output: str) -> None:
    """Show everything that happened to a task, in order."""
    events = operate.timeline(_engine(settings), task_id)
    print_rows([vars(event) for event in events], EVENT_COLUMNS, output)


@results.command("stats")
@settings_options()
@output_option
def stats_command(settings: Settings, output: str) -> None:
    """Count results by task and state, with the average seconds from start to finish."""
    print_rows(operate.statistics(_engine(settings)), STATISTICS_COLUMNS, output)


def _engine(settings: Settings) -> Any:
    return create_engine(settings.database.url_text())
