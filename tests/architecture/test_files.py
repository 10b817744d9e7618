"""What any file of the project must keep, whatever it says."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("reliable_tasks", "topology", "alembic", "examples", "tests", "scripts", "deploy", "bench")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
LONGEST = 300
LONGER = {"tests/chaos/checker.py": 460}
"""One file on purpose: who doubts the product reads this, and nothing else."""

SAYS_NOTHING = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base"}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _relative(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_no_module_is_longer_than_one_idea() -> None:
    long = {
        name: lines
        for path in MODULES
        if (lines := len(path.read_text().splitlines()))
        > LONGER.get(name := str(path.relative_to(ROOT)), LONGEST)
    }
    assert long == {}, "split these along their ideas"


def test_names_say_what_is_inside() -> None:
    empty = [path for path in MODULES if SAYS_NOTHING & {*path.stem.split("_"), path.parent.name}]
    assert _relative(empty) == []


def test_the_revisions_folder_does_not_shadow_the_library() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists(), "`import alembic` would find the folder"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "reliable_tasks" / "model").glob("*.py")), ids=lambda path: path.name
)
def test_the_model_needs_the_standard_library_only(path: Path) -> None:
    allowed = {*sys.stdlib_module_names, "reliable_tasks"}
    assert {name for name in _imports(path) if name.partition(".")[0] not in allowed} == set()


def test_the_checker_knows_nothing_of_the_product() -> None:
    allowed = {*sys.stdlib_module_names, "psycopg2"}
    imported = _imports(ROOT / "tests" / "chaos" / "checker.py")
    assert {name for name in imported if name.partition(".")[0] not in allowed} == set()


def test_broker_and_database_are_never_imitated() -> None:
    imitating = [path for path in MODULES if any("mock" in name.split(".") for name in _imports(path))]
    assert _relative(imitating) == []


def test_tests_wait_for_conditions_not_for_time() -> None:
    sleeping = [path for path in (ROOT / "tests").rglob("test_*.py") if "time.sleep" in _calls(path)]
    assert _relative(sleeping) == [], "wait_until polls a condition with a deadline"


def _calls(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return {ast.unparse(node.func) for node in tree if isinstance(node, ast.Call)}
