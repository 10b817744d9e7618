"""The quick tier's table, after everything else that pytest has to say."""

from typing import Any

import pytest

from tests.chaos import quick_table

_ROWS = "faults_and_what_came_of_them"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes that run tests has ended."""
    quick_table.rows.extend(map(tuple, getattr(node, "workeroutput", {}).get(_ROWS, ())))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_ROWS] = quick_table.rows


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = list(quick_table.lines())
    if lines:
        terminalreporter.section("faults and what came of them")
        for line in lines:
            terminalreporter.write_line(line)
