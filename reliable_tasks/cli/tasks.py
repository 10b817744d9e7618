"""`reliable-tasks tasks`: cancel what has not started."""

import rich_click as click

from reliable_tasks.cli.asking import ask, exit_with, yes_option
from reliable_tasks.cli.context import audit_actor, settings_options
from reliable_tasks.cli.output import output_option, print_rows
from reliable_tasks.operate import tasks as operate
from reliable_tasks.settings import Settings
from reliable_tasks.store.engine import create_engine

COLUMNS = ("task_id", "outcome", "detail")


@click.group()
def tasks() -> None:
    """Tasks that wait: cancel them."""


@tasks.command("cancel")
@settings_options()
@click.argument("task_ids", metavar="TASK_ID...", nargs=-1, required=True)
@click.option("--because", metavar="TEXT", help="Why, for the audit.")
@yes_option
@output_option
@click.pass_context
def cancel_command(
    ctx: click.Context,
    settings: Settings,
    task_ids: tuple[str, ...],
    because: str | None,
    yes: bool,
    output: str,
) -> None:
    """Cancel tasks that have not started; never one that runs or has ended."""
    if not yes:
        ask(f"Cancel {len(task_ids)} tasks?")
    engine = create_engine(settings.database.url_text())
    done = list(operate.cancel(engine, task_ids, audit_actor(), because))
    print_rows([vars(item) for item in done], COLUMNS, output)
    exit_with(ctx, [item.outcome for item in done])
