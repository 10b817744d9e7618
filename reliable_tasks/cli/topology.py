"""`reliable-tasks topology`: the broker's declared shape against the live one."""

from typing import Any

import rich_click as click

from reliable_tasks.broker.management import Management
from reliable_tasks.cli.asking import ask, yes_option
from reliable_tasks.cli.context import audit_actor, settings_options
from reliable_tasks.cli.output import output_option, print_rows, say
from reliable_tasks.errors import DatabaseUnreachable, MigrationMissing, ReliableTasksError
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.shape import Topology
from reliable_tasks.model.shape_loading import load_topology
from reliable_tasks.operate import topology as operate
from reliable_tasks.settings import Settings
from reliable_tasks.store import actions
from reliable_tasks.store.engine import begin, create_engine

ERROR, DIFFERS = 1, 2
DETAILED = "--detailed-exitcode"
STEP_COLUMNS = ("action", "kind", "name", "detail")
SHOW_COLUMNS = ("queue", "role", "state", "messages", "ready", "unacked", "consumers", "dead_letters_to")


class PlanUsageError(click.UsageError):
    """A wrong option of a plan whose exit code says whether the broker differs."""

    exit_code = ERROR


class PlanCommand(click.RichCommand):
    """With --detailed-exitcode, 2 means "differs" and nothing else: every error ends with 1."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        detailed = DETAILED in args
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if detailed:
                raise PlanUsageError(error.format_message(), error.ctx) from error
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReliableTasksError as error:
            error.exit_code = ERROR if ctx.params["detailed_exitcode"] else error.exit_code
            raise


@click.group()
def topology() -> None:
    """The broker's declared shape against the live one: plan, apply, show."""


@topology.command("plan", cls=PlanCommand)
@settings_options(topology=True)
@click.option(DETAILED, is_flag=True, help="Exit with 2 when the broker is not as declared.")
@output_option
@click.pass_context
def plan_command(ctx: click.Context, settings: Settings, detailed_exitcode: bool, output: str) -> None:
    """Show what apply would do; changes nothing."""
    found = operate.plan(load_topology(settings.topology), _management(settings))
    _print_steps(found, output)
    if detailed_exitcode and found.differs:
        ctx.exit(DIFFERS)


@topology.command("apply")
@settings_options(topology=True)
@yes_option
@output_option
def apply_command(settings: Settings, yes: bool, output: str) -> None:
    """Create what is missing; refuse when something is there that differs."""
    declared = load_topology(settings.topology)
    found = operate.plan(declared, _management(settings))
    _print_steps(found, output)
    operate.refuse_differences(found)
    missing = found.having("create")
    if not missing:
        return
    if not yes:
        ask(f"Create {len(missing)} on {settings.broker.url_shown()}?")
    done = operate.apply(found, settings.broker.url_text(), record=_audit(settings))
    say(f"created {len(done)} on {settings.broker.url_shown()}")


@topology.command("show")
@settings_options(topology=True)
@output_option
def show_command(settings: Settings, output: str) -> None:
    """Show the declared queues and what is in them."""
    declared = load_topology(settings.topology)
    management = _management(settings)
    capabilities = Capabilities.for_version(management.version())
    depths = management.depths()
    rows = []
    for queue in declared.physical(capabilities).queues:
        depth = depths.get(queue.name)
        rows.append(
            {
                "queue": queue.name,
                "role": queue.role,
                "state": "live" if depth else "missing",
                "messages": depth.messages if depth else None,
                "ready": depth.ready if depth else None,
                "unacked": depth.unacked if depth else None,
                "consumers": depth.consumers if depth else None,
                "dead_letters_to": _dead_letters_to(declared, queue.name, capabilities),
            }
        )
    print_rows(rows, SHOW_COLUMNS, output)
    if any(row["state"] == "missing" for row in rows):
        say("hint: `reliable-tasks topology apply` creates what is missing")


def _management(settings: Settings) -> Management:
    return Management(settings.broker.management_url, settings.broker.url_text())


def _print_steps(found: operate.Plan, output: str) -> None:
    rows = [
        {"action": step.action, "kind": step.kind, "name": step.name, "detail": step.detail}
        for step in found.steps
    ]
    print_rows(rows, STEP_COLUMNS, output)
    say(f"vhost {found.vhost}, RabbitMQ {found.broker_version}: {found.summary()}")
    if found.hint:
        say(f"hint: {found.hint}")


def _audit(settings: Settings) -> operate.Record:
    """Writes what apply does among the operators' acts; without a usable database it says so, once, and goes on.

    The broker's shape comes before the first worker, and often before the database: it must not wait for it.
    """
    engine = create_engine(settings.database.url_text())
    told: list[str] = []

    def write(row: dict[str, Any]) -> None:
        try:
            with begin(engine) as connection:
                details = {name: value for name, value in row.items() if name not in ("action", "vhost")}
                actions.record(connection, audit_actor(), row["action"], row["vhost"], None, **details)
        except (DatabaseUnreachable, MigrationMissing) as error:
            if not told:
                told.append(error.message)
                say(f"not recorded among the operators' acts: {error.message}")

    return write


def _dead_letters_to(declared: Topology, name: str, capabilities: Capabilities) -> str | None:
    owner = declared.owner_of(name, capabilities)
    return owner.dead_letter.queue if owner else None
