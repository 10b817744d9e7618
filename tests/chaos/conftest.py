"""The quick tier's table, after everything else that pytest has to say."""

import pytest

from tests.chaos import quick_table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = list(quick_table.lines())
    if lines:
        terminalreporter.section("faults and what came of them")
        for line in lines:
            terminalreporter.write_line(line)
