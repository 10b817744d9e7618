"""`reliable-tasks config`: the settings in effect."""

import rich_click as click

from reliable_tasks.cli.context import settings_options
from reliable_tasks.cli.output import output_option, print_rows
from reliable_tasks.settings import Settings


@click.group()
def config() -> None:
    """The settings in effect and where each comes from."""


@config.command()
@settings_options()
@output_option
def show(settings: Settings, output: str) -> None:
    """Every setting with its value (secrets masked) and origin."""
    rows = (
        {"name": name, "value": value, "origin": settings.origins[name]}
        for name, value in settings.shown.items()
    )
    print_rows(rows, ("name", "value", "origin"), output)
