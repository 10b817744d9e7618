"""CSV is opened by spreadsheets, which compute what looks like a formula (CWE-1236)."""

import csv
import io
import json

import pytest

from reliable_tasks.cli.output import print_rows

ASCII = ("=1+2", "+1+2", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "-", "+49 x")
FULL_WIDTH = ("\uff1d1+2", "\uff20x")


@pytest.mark.parametrize("text", [*ASCII, *FULL_WIDTH])
def test_a_spreadsheet_computes_nothing_of_csv(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"a": text, "b": "x" + text, "c": -1, "d": "-1.50"}], ["a", "b", "c", "d"], "csv")
    found = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert not found["a"].startswith(tuple("=+-@\t\r\uff0b\uff0d\uff1d\uff20"))
    assert found["a"].lstrip("'").replace("\\u000d", "\r") == text
    assert (found["b"][0], found["c"], found["d"]) == ("x", "-1", "-1.50"), "numbers stay numbers"
    print_rows([{"a": text}], ["a"], "json")
    assert json.loads(capsys.readouterr().out) == {"a": text}
