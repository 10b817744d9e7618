"""How a command ends when it cannot do its work: one line, a hint, an exit code, and no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click
from rich.console import Console
from rich.text import Text

from reliable_tasks.errors import ReliableTasksError

UNEXPECTED = 1
INTERRUPTED = 130
PIPE_CLOSED = 141


@contextmanager
def told_in_one_line() -> Iterator[None]:  # noqa: C901 - one clause per way a command can end
    """Turn what a command raises into a message on stderr and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except ReliableTasksError as error:
        _tell(f"error[{error.code}]", error.message, error.hint)
        raise SystemExit(error.exit_code) from None
    except click.exceptions.Abort:
        _tell("aborted", "nothing more was done", "")
        raise SystemExit(UNEXPECTED) from None
    except click.exceptions.Exit as end:
        # becomes the program's exit code here, so that what a command returns never does
        raise SystemExit(end.exit_code) from None
    except click.ClickException:
        raise
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as end:
        # rich has its own idea of how to end when the reader went away
        if isinstance(end.__context__, BrokenPipeError):
            _end_without_reader()
        raise
    except BrokenPipeError:
        _end_without_reader()
    except Exception as error:
        if os.environ.get("RELIABLE_TASKS_TRACEBACK") == "1":
            raise
        _tell(
            "error",
            f"unexpected {type(error).__name__}: {_first_line(error)}",
            "RELIABLE_TASKS_TRACEBACK=1 shows where",
        )
        raise SystemExit(UNEXPECTED) from None


def _end_without_reader() -> NoReturn:
    # what is still buffered would fail again when the interpreter ends
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(PIPE_CLOSED) from None


def tell_usage(error: click.ClickException) -> int:
    """Say what is wrong with the command line; returns the exit code."""
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` shows what is possible" if context else ""
    _tell("error", _first_line_of(error.format_message()), hint)
    return error.exit_code


def _tell(kind: str, message: str, hint: str) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble((f"{kind}:", "bold red"), " ", message))
    if hint:
        console.print(Text.assemble(("hint:", "bold"), " ", hint))


def _first_line(error: Exception) -> str:
    return _first_line_of(str(error)) or "no message"


def _first_line_of(text: str) -> str:
    return text.strip().partition("\n")[0]
