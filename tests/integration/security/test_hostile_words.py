"""What an operator types, or pastes from a dead letter, is a value: never SQL, nor bytes that Postgres reads otherwise.

Bound parameters, text that is UTF-8, and sorting that nobody chooses (CVE-2025-1094, CVE-2019-7164).
"""

import json
import subprocess
import sys

from tests.database import Database
from tests.integration.security.roles import Roles

WORDS = (
    "'; DROP TABLE reliable_tasks.results; --",
    "' OR '1'='1",
    "x\\' OR 1=1 --",
    "%",
    "$$; SELECT pg_sleep(60); $$",
    ":name %(name)s {name} ?",
    "\udcbf'; SELECT 1; --",  # a byte that is no UTF-8, as a command line hands it on
    "\udcc0\udc27 OR 1=1",
    "\udc80\udcff",
    "\ud800",
    "a\x00b",
    "\u202e\x1b[2J",
    "x" * 100_000,
    "",
)
PROGRAM = """
import json, sys
from reliable_tasks.cli.main import cli
sys.stdout.reconfigure(errors="backslashreplace")
for words in json.loads(sys.stdin.readline()):
    try:
        code = cli.main(args=words, prog_name="reliable-tasks", standalone_mode=False)
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        code = f"{type(error).__module__}.{type(error).__name__}: {error}"
    sys.stderr.write(json.dumps([words, code]) + "\\n")
"""


def commands(word: str) -> list[list[str]]:
    return [
        *(["results", "list", option, word] for option in ("--task", "--key", "--before", "--state", "--limit")),
        ["results", "show", word],
        ["results", "timeline", word],
        *(
            ["dead-letters", "list", option, word]
            for option in ("--task", "--queue", "--reason", "--after", "--state")
        ),
        ["dead-letters", "show", word],
        ["dead-letters", "replay", "--task", word, "--yes", "--dry-run"],
        ["dead-letters", "discard", "1", "--reason", word, "--yes", "--dry-run"],
        ["tasks", "cancel", word, "--yes"],
    ]  # fmt: skip


def test_hostile_words_are_values_or_refused_in_words(roles: Roles, database: Database) -> None:
    database.rows(
        "INSERT INTO reliable_tasks.results (id, task_id, name, state, finished_at)"
        " VALUES (gen_random_uuid(), 'kept', 'kept', 'dead', now())"
    )
    before = database.rows("SELECT relname FROM pg_class ORDER BY 1")
    calls = [words for word in WORDS for words in commands(word)]
    operator = roles.as_("operator")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": ".", "PYTHONUTF8": "1", **operator.environment()},
        input=json.dumps(calls).encode(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    said = done.stderr.decode(errors="replace")
    answers = [json.loads(line) for line in said.splitlines() if line.startswith("[[")]
    assert len(answers) == len(calls), said[-2000:]
    unexpected = [
        (words, code)
        for words, code in answers
        if code not in (None, 0, 1, 2, 3) and not str(code).startswith(("click.", "rich_click."))
    ]
    assert unexpected == []
    assert "Traceback" not in said
    assert "unexpected" not in said
    assert b"kept" not in done.stdout, "no word means all rows"
    assert database.rows("SELECT relname FROM pg_class ORDER BY 1") == before
    database.rows("DELETE FROM reliable_tasks.results WHERE task_id = 'kept'")
