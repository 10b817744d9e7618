"""`reliable-tasks dead-letters`: see, replay and discard what failed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich_click as click

from reliable_tasks.cli.asking import ask, exit_with, yes_option
from reliable_tasks.cli.context import audit_actor, is_app_known, load_app, settings_options
from reliable_tasks.cli.output import output_option, print_record, print_rows, say
from reliable_tasks.model.shape_loading import load_topology
from reliable_tasks.model.signing import signer_of
from reliable_tasks.model.states import DeadLetterState
from reliable_tasks.operate import dead_letters as operate
from reliable_tasks.settings import Settings
from reliable_tasks.store.engine import create_engine

COLUMNS = (
    "id",
    "state",
    "reason",
    "task_name",
    "task_id",
    "queue",
    "attempts",
    "replay",
    "first_seen",
    "error",
)
OUTCOME_COLUMNS = ("dead_letter", "outcome", "task_id", "task_name", "replay", "detail")
GROUP_COLUMNS = ("state", "reason", "task_name", "count", "oldest")


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--reason, --task and --queue."""
    for option in (
        click.option("--queue", help="Only of this queue."),
        click.option("--task", "task_name", metavar="NAME", help="Only of this task."),
        click.option("--reason", help="Only those that died of this: permanent, exhausted, conflict, ..."),
    ):
        command = option(command)
    return command


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ids, or a filter, or --all."""
    command = click.option("--all", "everything", is_flag=True, help="All open ones.")(command)
    command = filter_options(command)
    return click.argument("ids", type=int, nargs=-1)(command)


@click.group("dead-letters")
def dead_letters() -> None:
    """What failed and waits for a person: see it, replay it, discard it."""


@dead_letters.command("list")
@settings_options()
@click.option(
    "--state",
    type=click.Choice([*(state.value for state in DeadLetterState), "all"]),
    default="open",
    show_default=True,
    help="Only in this state.",
)
@filter_options
@click.option("--after", type=int, default=0, metavar="ID", help="Go on after this id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output_option
def list_command(
    settings: Settings,
    state: str,
    reason: str | None,
    task_name: str | None,
    queue: str | None,
    after: int,
    limit: int,
    output: str,
) -> None:
    """List dead letters, oldest first."""
    wanted = operate.Filter(None if state == "all" else state, reason, task_name, queue)
    found = operate.page(_engine(settings), wanted, after=after, limit=limit)
    print_rows([{**row, "error": _error(row)} for row in found], COLUMNS, output)
    if len(found) == limit:
        say(f"hint: there may be more: --after {found[-1]['id']}")
    elif not found:
        say("no dead letters" if state == "all" else f"no dead letters are {state}")


@dead_letters.command("groups")
@settings_options()
@output_option
def groups_command(settings: Settings, output: str) -> None:
    """Count dead letters by state, reason and task."""
    print_rows(operate.groups(_engine(settings)), GROUP_COLUMNS, output)


@dead_letters.command("show")
@settings_options()
@click.argument("number", metavar="ID", type=int)
@output_option
def show_command(settings: Settings, number: int, output: str) -> None:
    """Show one dead letter: its message, its attempts, what operators did."""
    print_record(operate.show(_engine(settings), number), output)


@dead_letters.command("replay")
@settings_options(topology=True)
@selection_options
@click.option("--because", metavar="TEXT", help="Why, for the audit.")
@click.option(
    "--vouch",
    is_flag=True,
    help="Sign also what came unsigned or with a wrong signature: you say that it is genuine. Goes into the audit.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
@yes_option
@output_option
@click.pass_context
def replay_command(
    ctx: click.Context,
    settings: Settings,
    ids: tuple[int, ...],
    reason: str | None,
    task_name: str | None,
    queue: str | None,
    everything: bool,
    because: str | None,
    vouch: bool,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """Send dead letters to their queues again, under the same key: what has been done is not done twice."""
    engine = _engine(settings)
    chosen = _chosen(engine, ids, operate.Filter("open", reason, task_name, queue), everything)
    if not dry_run and not yes:
        ask(f"Replay {len(chosen)} dead letters of {settings.database.url_shown()}?")
    by = operate.Operator(audit_actor(), because)
    done = operate.replay(engine, chosen, by, _known(settings), dry_run=dry_run, vouch=vouch)
    exit_with(ctx, _told(done, output))


@dead_letters.command("discard")
@settings_options()
@selection_options
@click.option("--because", metavar="TEXT", required=True, help="Why, for the audit.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")
@yes_option
@output_option
@click.pass_context
def discard_command(
    ctx: click.Context,
    settings: Settings,
    ids: tuple[int, ...],
    reason: str | None,
    task_name: str | None,
    queue: str | None,
    everything: bool,
    because: str,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """End dead letters for good: they are kept, but never run again."""
    engine = _engine(settings)
    chosen = _chosen(engine, ids, operate.Filter("open", reason, task_name, queue), everything)
    if not dry_run and not yes:
        ask(f"Discard {len(chosen)} dead letters of {settings.database.url_shown()}?")
    done = operate.discard(engine, chosen, operate.Operator(audit_actor(), because), dry_run=dry_run)
    exit_with(ctx, _told(done, output))


def _engine(settings: Settings) -> Any:
    return create_engine(settings.database.url_text())


def _chosen(engine: Any, ids: tuple[int, ...], wanted: operate.Filter, everything: bool) -> list[int]:
    filtered = any((wanted.reason, wanted.task_name, wanted.queue))
    if sum((bool(ids), everything, filtered)) != 1:
        raise click.UsageError("name ids, or a filter (--reason, --task, --queue), or --all")
    return list(ids) if ids else operate.matching(engine, wanted)


def _known(settings: Settings) -> operate.Known:
    """What this deployment has: a replay of anything else would only die again."""
    shape = load_topology(settings.topology)
    queues = {queue.name for queue in shape.queues}
    signer = signer_of(settings.signing)
    if not is_app_known(settings):
        return operate.Known(queue=queues.__contains__, signer=signer)
    app = load_app(settings)
    app.loader.import_default_modules()
    return operate.Known(queue=queues.__contains__, task=app.tasks.__contains__, signer=signer)


def _told(done: Iterator[operate.Done], output: str) -> Sequence[str]:
    """Print what became of each; returns the outcomes."""
    found = list(done)
    print_rows([vars(item) for item in found], OUTCOME_COLUMNS, output)
    outcomes = [item.outcome for item in found]
    counted = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
    say(counted or "nothing to do")
    return outcomes


def _error(row: dict[str, Any]) -> str | None:
    if not row["exception_type"]:
        return None
    text = f"{row['exception_type']}: {row['exception_message']}".partition("\n")[0]
    return text if len(text) <= 100 else f"{text[:99]}…"
