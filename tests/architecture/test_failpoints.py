"""Failpoints cost one look at a constant, and the table of windows is what the code passes."""

import ast
from collections.abc import Iterator
from pathlib import Path

from reliable_tasks.failpoints import WINDOWS

ROOT = Path(__file__).parents[2]
REACH = "failpoints.reach"
ACTIVE = "failpoints.ACTIVE"


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / "reliable_tasks").rglob("*.py")):
        if path.parent.name != "failpoints":
            yield path, ast.parse(path.read_text())


def _mentions(tree: ast.AST) -> list[ast.Attribute]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node) == REACH]


def _asked(test: ast.expr) -> bool:
    """Whether the condition looks at the constant first, and so at nothing else when it is false."""
    first = test.values[0] if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else test
    return ast.unparse(first) == ACTIVE


def test_every_window_costs_one_look_at_a_constant() -> None:
    for path, tree in _trees():
        guarded = [
            mention
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and _asked(node.test) and len(node.body) == 1 and not node.orelse
            for mention in _mentions(node.body[0])
        ]
        assert set(_mentions(tree)) == set(guarded), path


def test_the_table_names_the_windows_that_the_code_passes() -> None:
    passed: dict[str, bool] = {}
    for _path, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (REACH, "reach"):
                name = ast.literal_eval(node.args[0])
                passed[name] = passed.get(name, False) or len(node.args) > 1
    assert passed == {name: window.reset for name, window in WINDOWS.items()}


def test_a_step_ends_in_a_window() -> None:
    assert {window.until for window in WINDOWS.values() if window.until} <= set(WINDOWS)
