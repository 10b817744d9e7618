"""How every command prints: data to stdout as table, json or csv; everything else to stderr."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNLIMITED = 100_000

FORMATS = ("table", "json", "csv")

output_option = click.option(
    "--output",
    "output",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How to print: a table for people, JSON (JSON Lines for lists) or CSV for programs.",
)


def plain(value: Any) -> Any:
    """A value as JSON can carry it: money and identifiers as text, times as ISO 8601 in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters but tab and line feed, marks that reorder a line or are not seen, and halves of characters."""


def visible(text: str) -> str:
    """The text as a terminal may show it: what would steer it, or deceive its reader, as an escape.

    The escapes are JSON's, so that JSON keeps its meaning (see also CVE-2021-42574 on marks that reorder text).
    """
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_COMPUTES = re.compile(r"[=+\-@\t\r\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def _inert(text: str) -> str:
    """A text that no spreadsheet computes when it opens the file (CWE-1236)."""
    return f"'{text}" if _COMPUTES.match(text) and not _NUMBER.fullmatch(text) else text


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output: str) -> int:
    """Print rows (column name to value) in the chosen form; returns how many there were."""
    found = [{column: plain(row.get(column)) for column in columns} for row in rows]
    if output == "json":
        for row in found:
            sys.stdout.write(visible(json.dumps(row, ensure_ascii=False)) + "\n")
    elif output == "csv":
        writer = csv.DictWriter(sys.stdout, fieldnames=list(columns))
        writer.writeheader()
        writer.writerows(
            {name: _inert(visible(value)) if isinstance(value, str) else value for name, value in row.items()}
            for row in found
        )
    else:
        table = Table(*columns, header_style="bold")
        for row in found:
            # a line break would make of one row two, the second one forged
            table.add_row(*(_cell(row[column], lines=False) for column in columns))
        _console().print(table)
    return len(found)


def print_record(record: Mapping[str, Any], output: str) -> None:
    """Print one record: a table of fields (lines, where it is no terminal), one JSON object, or a one-row CSV."""
    values = {str(key): plain(value) for key, value in record.items()}
    if output == "json":
        sys.stdout.write(visible(json.dumps(values, ensure_ascii=False, indent=2)) + "\n")
    elif output == "csv":
        print_rows([values], list(values), output)
    elif not sys.stdout.isatty():
        # a frame as wide as the longest line of a traceback helps nobody
        indent = max(map(len, values), default=0) + 2
        for key, value in values.items():
            sys.stdout.write(
                f"{key:<{indent}}" + _cell(value).plain.replace("\n", "\n" + " " * indent) + "\n"
            )
    else:
        table = Table("field", "value", header_style="bold")
        for key, value in values.items():
            table.add_row(_cell(key), _cell(value))
        _console().print(table)


def _console() -> Console:
    """For a terminal its width; for a pipe no limit, so that no value is broken and `grep` finds it."""
    return Console(width=None if sys.stdout.isatty() else _UNLIMITED)


def _cell(value: Any, *, lines: bool = True) -> Text:
    """A value as it is: a plain string would be read as markup, and `[red]` or `[order]` would vanish."""
    if isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = "" if value is None else str(value)
    return Text(visible(text) if lines else visible(text).replace("\n", "\\n"))


def say(text: str) -> None:
    """Tell the person something that is not data: to stderr."""
    click.echo(visible(text), err=True)
