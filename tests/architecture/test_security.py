"""docs/security.md tells the truth: what it names as tests are tests; and what the code may never use, it does not."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", DOCUMENT)))
CODE = sorted((ROOT / "reliable_tasks").rglob("*.py"))
READERS_THAT_RUN = {"pickle", "marshal", "shelve", "yaml", "msgpack", "dill", "cloudpickle", "jsonpickle"}
HTTP = {"urllib", "http", "requests", "httpx", "aiohttp", "urllib3"}


def modules(path: Path) -> set[str]:
    """What a module imports, by its full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_every_class_of_attack_has_a_test() -> None:
    table = DOCUMENT.partition("## Classes of attack")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 20
    assert [row for row in rows if "::test_" not in row.rpartition(" | ")[2]] == []


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_nothing_of_ours_reads_what_can_run() -> None:
    using = {str(path.relative_to(ROOT)): modules(path) & READERS_THAT_RUN for path in CODE}
    assert {path: found for path, found in using.items() if found} == {}


def test_http_is_spoken_to_the_management_api_alone() -> None:
    speaking = {
        str(path.relative_to(ROOT))
        for path in CODE
        if any(name.partition(".")[0] in HTTP and name != "urllib.parse" for name in modules(path))
    }
    assert speaking == {"reliable_tasks/broker/management.py", "reliable_tasks/dev/management.py"}
