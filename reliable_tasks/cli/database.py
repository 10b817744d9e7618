"""`reliable-tasks db`: the schema, by the packaged Alembic revisions."""

import rich_click as click

from reliable_tasks.cli.context import settings_options
from reliable_tasks.cli.output import output_option, print_record, say
from reliable_tasks.settings import Settings

DIFFERS = 2


@click.group()
def db() -> None:
    """The database schema: bring it up to date, see where it is, check it."""


@db.command()
@settings_options()
def upgrade(settings: Settings) -> None:
    """Apply every revision that is missing."""
    from reliable_tasks.store import migrations

    migrations.upgrade(settings.database.url_text())
    say(f"{settings.database.url_shown()} is at revision {migrations.current(settings.database.url_text())}")


@db.command()
@settings_options()
@output_option
def current(settings: Settings, output: str) -> None:
    """Show the revision the database is at."""
    from reliable_tasks.store import migrations

    revision = migrations.current(settings.database.url_text())
    print_record({"database": settings.database.url_shown(), "revision": revision}, output)


@db.command()
@settings_options()
@click.pass_context
def check(ctx: click.Context, settings: Settings) -> None:
    """Compare the database with the declared tables; exit code 2 and the differences when they differ."""
    from reliable_tasks.store import migrations

    differences = migrations.check(settings.database.url_text())
    for difference in differences or ():
        click.echo(difference)
    if differences:
        say("hint: `reliable-tasks db upgrade` applies missing revisions")
        ctx.exit(DIFFERS)
    say("the database is as declared")
