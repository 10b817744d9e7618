"""`reliable-tasks doctor`: which guarantees this deployment keeps."""

import rich_click as click

from reliable_tasks.cli.context import settings_options
from reliable_tasks.cli.output import output_option, print_record, print_rows, say
from reliable_tasks.settings import Settings

LOST, UNREACHABLE = 1, 7
_WORDS = {"lost": "LOST"}


@click.command()
@settings_options(topology=True)
@output_option
@click.pass_context
def doctor(ctx: click.Context, settings: Settings, output: str) -> None:
    """Say which guarantees this deployment keeps, which it has lost, and how that is known.

    Looks at the broker, its topology and the database, and changes nothing. Exit code 0: every guarantee that
    this version can give is kept; 1: one is lost; 7: one cannot be told, because a service does not answer.
    """
    from reliable_tasks.broker.management import Management
    from reliable_tasks.model.shape_loading import load_topology
    from reliable_tasks.observe.doctor import examine
    from reliable_tasks.operate.topology import plan

    topology = load_topology(settings.topology)

    def management() -> Management:
        return Management(settings.broker.management_url, settings.broker.url_text())

    def differences() -> list[str]:
        steps = plan(topology, management()).steps
        return [
            f"{step.kind} {step.name} " + ("is missing" if step.action == "create" else step.detail)
            for step in steps
            if step.action in ("create", "differs")
        ]

    found = examine(settings, topology, management, differences)
    if output == "json":
        print_record(
            {
                "healthy": found.healthy,
                "guarantees": found.guarantees,
                "checks": found.checks,
                "limits": found.limits,
            },
            output,
        )
    else:
        guarantees = [
            {
                "guarantee": each.name,
                "promise": each.promise,
                "here": _WORDS.get(each.verdict, each.verdict),
                "evidence": each.evidence,
                "hint": each.hint,
            }
            for each in found.guarantees
        ]
        print_rows(guarantees, ["guarantee", "promise", "here", "evidence"], output)
    if output == "table":
        checks = [
            {"looked at": check.name, "found": check.evidence, "for": " ".join(check.guarantees)}
            for check in found.checks
        ]
        print_rows(checks, ["looked at", "found", "for"], output)
        for limit in found.limits:
            say(f"not guaranteed anywhere: {limit}")
    for hint in dict.fromkeys(each.hint for each in found.checks if each.hint and each.guarantees):
        say(f"hint: {hint}")
    lost, unknown = found.having("lost"), found.having("unknown")
    for words, guarantees_ in (("lost", lost), ("cannot be told", unknown)):
        if guarantees_:
            say(f"{words}: {', '.join(each.name for each in guarantees_)}")
    if lost or unknown:
        ctx.exit(LOST if lost else UNREACHABLE)
    say("every guarantee that this version can give is kept")
