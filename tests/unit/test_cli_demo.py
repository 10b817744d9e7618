"""`reliable-tasks demo`: its exit code and output follow the report."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from reliable_tasks.cli import demo as command

REPORT = {
    **dict.fromkeys(command.SHOWN, 0),
    "unfunded": {},
    "bad_lines": 0,
    "kills": {},
    "restarts": {},
    "versions": {},
    "seconds": 1.0,
    "control": {"failed_without_way_back": 0, "settings": {}},
}


def _invoke(monkeypatch: pytest.MonkeyPatch, failures: list[str], *options: str) -> Any:
    report = {**REPORT, "failures": failures, "passed": not failures}
    loaded = SimpleNamespace(run_demo=lambda *_, **__: report, __file__=__file__)
    monkeypatch.setattr(command, "load_demo", lambda: loaded)
    return CliRunner().invoke(command.demo, options)


def test_a_promise_that_was_not_kept_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _invoke(monkeypatch, ["1 orders lost: ('7',)"], "--output", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False
    assert "not kept: 1 orders lost: ('7',)" in result.stderr
    assert "FAIL" in result.stderr


def test_all_promises_kept_is_exit_code_0(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _invoke(monkeypatch, [], "--output", "table")
    assert result.exit_code == 0
    assert "plain Celery" in result.stdout
    assert "PASS" in result.stderr
