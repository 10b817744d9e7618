"""Asking before acting, and ending with the exit code that says how much was done."""

import sys
from collections.abc import Iterable

import click

from reliable_tasks.errors import OperationRefused

REFUSED, PARTLY = 1, 3

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def ask(question: str) -> None:
    """Go on only when a person at a terminal says yes.

    Raises:
        OperationRefused: when nobody is there to answer.
    """
    if not sys.stdin.isatty():
        raise OperationRefused(
            "this asks before it acts, and nobody is there to answer", hint="give --yes, or use a terminal"
        )
    click.confirm(question, abort=True, err=True)


def exit_with(ctx: click.Context, outcomes: Iterable[str]) -> None:
    """End with 3 when some were refused, with 1 when all were."""
    refused = [outcome == "refused" for outcome in outcomes]
    if any(refused):
        ctx.exit(REFUSED if all(refused) else PARTLY)
