"""`reliable-tasks`: the one program of developers, operators and auditors.

Commands are loaded when called: a broken module breaks only its own command, and `--help` imports none.
Mounted by Celery's plugin entry point as `celery -A app reliable ...`, with the application it loaded.
"""

import difflib
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import click
from rich_click import RichCommand, RichGroup

from reliable_tasks.cli.context import APP_OPTION_HELP, remember_app
from reliable_tasks.cli.failures import INTERRUPTED, tell_usage, told_in_one_line
from reliable_tasks.errors import ConfigurationError


@dataclass(frozen=True)
class LazyCommand:
    """Where a command lives and what the overview says about it."""

    target: str
    summary: str

    @property
    def module(self) -> str:
        """The module that holds the command."""
        return self.target.partition(":")[0]

    def exists(self) -> bool:
        """Whether this installation has the module; does not import it."""
        return find_spec(self.module) is not None

    def load(self, name: str) -> click.Command:
        """Import the command.

        Raises:
            ConfigurationError: when the module needs a package that is not installed.
        """
        module, _, attribute = self.target.partition(":")
        try:
            command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the command {name} cannot be loaded: there is no module {error.name}",
                hint="install the package with its dependencies again: pip install --upgrade reliable-tasks",
            ) from error
        assert isinstance(command, click.Command)
        return command


COMMANDS: dict[str, LazyCommand] = {
    "demo": LazyCommand(
        "reliable_tasks.cli.demo:demo", "Pay real orders under faults and count what was lost."
    ),
    "dev": LazyCommand("reliable_tasks.cli.dev:dev", "Private RabbitMQ and Postgres for development."),
    "topology": LazyCommand(
        "reliable_tasks.cli.topology:topology", "The broker's declared shape against the live one."
    ),
    "db": LazyCommand("reliable_tasks.cli.database:db", "The database schema: upgrade, current, check."),
    "worker": LazyCommand("reliable_tasks.cli.worker:worker", "Run the Celery worker of the application."),
    "services": LazyCommand("reliable_tasks.cli.worker:services", "Run relay, collector and sweeper."),
    "dead-letters": LazyCommand(
        "reliable_tasks.cli.dead_letters:dead_letters", "See, replay, discard what failed."
    ),
    "results": LazyCommand("reliable_tasks.cli.results:results", "What ran, when, and how it ended."),
    "tasks": LazyCommand("reliable_tasks.cli.tasks:tasks", "Cancel tasks that have not started."),
    "doctor": LazyCommand("reliable_tasks.cli.doctor:doctor", "Which guarantees this deployment keeps."),
    "config": LazyCommand(
        "reliable_tasks.cli.config:config", "The settings in effect and where they come from."
    ),
    "exporter": LazyCommand("reliable_tasks.cli.exporter:exporter", "Metrics for Prometheus."),
}
ALIASES = {"dlq": "dead-letters"}


class LazyGroup(RichGroup):
    """A group whose commands come from the table, and whose failures are told in one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; but a word that is no text goes nowhere: neither into a query nor back to the terminal."""
        for number, word in enumerate(args, start=1):
            if "\x00" in word or word != word.encode("utf-8", "replace").decode():
                ctx.fail(f"word {number} after the program's name is not UTF-8 text")
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, command in COMMANDS.items() if command.exists()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        lazy = COMMANDS.get(name)
        return lazy.load(name) if lazy is not None and lazy.exists() else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, [*self.list_commands(ctx), *ALIASES], 1)
            ctx.fail(f"there is no command {name}" + (f", did you mean {close[0]}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # rich-click asks the context's command for its children
        ctx.command = _Listing(self)
        try:
            ctx.command.format_help(ctx, formatter)
        finally:
            ctx.command = self

    def invoke(self, ctx: click.Context) -> Any:
        with told_in_one_line():
            return super().invoke(ctx)


class _Listing(RichGroup):
    """The group as its own overview shows it: names and summaries, nothing imported."""

    def __init__(self, group: RichGroup) -> None:
        stubs: dict[str, click.Command] = {
            name: RichCommand(name=name, short_help=lazy.summary, help=lazy.summary)
            for name, lazy in COMMANDS.items()
            if lazy.exists()
        }
        super().__init__(
            name=group.name, commands=stubs, params=group.params, help=group.help, epilog=group.epilog
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def installed_version() -> str:
    """The version of this installation; a bare source tree has none."""
    try:
        return metadata.version("reliable-tasks")
    except metadata.PackageNotFoundError:
        return "from source, not installed"


@click.group(
    "reliable",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 error, 2 usage or plan differs, 3 partly done, 4 not allowed, "
    "6 waiting for approval, 7 service unreachable.",
)
@click.option("-A", "--app", "app", default=None, metavar="MODULE:APP", help=APP_OPTION_HELP)
@click.version_option(installed_version(), prog_name="reliable-tasks")
@click.pass_context
def cli(ctx: click.Context, app: str | None) -> None:
    """Reliable tasks on Celery, RabbitMQ and Postgres: nothing lost, nothing twice."""
    remember_app(ctx, app)


def main() -> None:
    """The `reliable-tasks` program."""
    try:
        cli.main(prog_name="reliable-tasks", standalone_mode=False)
    except click.ClickException as error:
        sys.exit(tell_usage(error))
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
