"""Runs many commands in one process, since the start of each takes long: python -m ...security.commands NAME."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

APP = "tests.integration.security.talkative"

LOOK = (
    ("config", "show"),
    ("config", "show", "--output", "json"),
    ("doctor",),
    ("topology", "show", "--output", "json"),
    ("topology", "plan"),
    ("results", "list", "--output", "json"),
    ("results", "timeline", "nobody"),
    ("dead-letters", "list", "--output", "json"),
    ("dead-letters", "show", "1", "--output", "json"),
    ("-A", f"{APP}:app", "dead-letters", "replay", "1", "--yes"),
    ("-A", f"{APP}:app", "services", "--only", "nothing"),
    ("-A", "no.such.module", "services"),
    ("db", "current"),
    ("no-such-command",),
)
CELERY = (
    ("report",),
    *(("inspect", what) for what in ("conf", "report", "stats", "active")),
    ("reliable", "config", "show"),
)
FAIL = (("doctor",), ("topology", "plan"), ("db", "current"), ("results", "list"), ("dead-letters", "list"))


def look() -> None:
    """All that tells something, and at last a crash of the interpreter."""
    from tests.integration.security import talkative

    say(talkative.everything())
    for words in LOOK:
        ours(words)
    for words in CELERY:
        celerys(words)
    sys.stdout.flush()
    os.abort()


def fail() -> None:
    """With wrong passwords, which the environment has: commands, a sender, and every traceback with its variables."""
    from tests.integration.security import talkative

    for shown in ("0", "1"):
        os.environ["RELIABLE_TASKS_TRACEBACK"] = shown
        for words in FAIL:
            ours(words)
    for options in ({}, {"countdown": 9}):
        told(lambda options=options: talkative.say.apply_async(("x",), **options))
    celerys(("worker", "-c", "1", "-P", "solo", "-l", "DEBUG"))


def misread() -> None:
    """Settings that cannot be read: each line of standard input is NAME=VALUE."""
    lines = sys.stdin.read().splitlines()
    before = dict(os.environ)
    for line in lines:
        name, _, value = line.partition("=")
        os.environ.pop(f"{name}_FILE", None)
        os.environ[name] = value
        ours(("config", "show"))
        os.environ.clear()
        os.environ.update(before)


def ours(words: tuple[str, ...]) -> None:
    from reliable_tasks.cli.main import cli

    say("ran:", *words)
    with ended():
        cli.main(args=list(words), prog_name="reliable-tasks", standalone_mode=False)


def celerys(words: tuple[str, ...]) -> None:
    from celery.bin.celery import celery

    say("ran: celery", *words)
    with ended():
        celery.main(args=["-A", APP, *words], prog_name="celery", standalone_mode=False)


def say(*words: object) -> None:
    """In the order in which it happens, for whoever reads it."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def told(act: Callable[[], Any]) -> None:
    with ended():
        act()


@contextlib.contextmanager
def ended() -> Iterator[None]:
    """However it ended: said as Python would say it, and as a debugger would, of our own frames."""
    try:
        yield
    except BaseException as error:
        say("ended:", repr(error), error)
        for chained in _chain(error):
            told_of = traceback.TracebackException.from_exception(chained, capture_locals=True)
            say(*traceback.format_exception(chained, chain=False))
            for frame in told_of.stack:
                if "/reliable_tasks/" in frame.filename:
                    say(f"locals of {frame.name}: {frame.locals}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    {"look": look, "fail": fail, "misread": misread}[sys.argv[1]]()
