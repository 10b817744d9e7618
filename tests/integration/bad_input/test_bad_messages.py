"""Every class of bad input has the end that the list gives it, and only that; the worker lives and works on."""

import secrets
from typing import Any

import pytest

from tests.database import Database
from tests.deployment import Deployment
from tests.integration.bad_input.bad_messages import BAD_MESSAGES, BadMessage, End
from tests.integration.bad_input.sending import TARGET, send
from tests.waiting import wait_until

SECONDS = 90


@pytest.fixture(scope="module")
def batch(around: Deployment, running: Any, database: Database) -> dict[str, BadMessage]:
    """All of them, sent at once, and waited for until each has its end."""
    cases = send(around, BAD_MESSAGES, f"b{secrets.token_hex(4)}")
    waiting = {case for case, message in cases.items() if message.end is not End.NEVER_SENT}

    def all_have_ended() -> bool:
        left = unended(database, waiting)
        assert not left, sorted(left)
        return True

    wait_until(all_have_ended, f"{len(waiting)} ends", SECONDS)
    return cases


def unended(database: Database, cases: set[str]) -> set[str]:
    """Those of the cases that have no row yet which says how they ended."""
    dead = database.rows(
        "SELECT properties->>'correlation_id' AS name FROM reliable_tasks.dead_letters WHERE collected_at IS NOT NULL"
    )
    ended = database.rows(
        "SELECT task_id AS name FROM reliable_tasks.results WHERE state IN ('succeeded', 'expired') "
        "UNION ALL SELECT task_id FROM reliable_tasks.outbox WHERE due_at > now()"
    )
    return (
        cases - {row["name"] for row in dead} - {str(row["name"])[:200].split("\u200d")[0] for row in ended}
    )


def dead_letters(database: Database, case: str) -> list[dict[str, Any]]:
    query = "SELECT * FROM reliable_tasks.dead_letters WHERE properties->>'correlation_id' = :case"
    return database.rows(query, case=case)


@pytest.mark.parametrize("name", [message.name for message in BAD_MESSAGES])
def test_it_ends_as_the_list_says(batch: dict[str, BadMessage], database: Database, name: str) -> None:
    case, message = next((case, message) for case, message in batch.items() if message.name == name)
    found = dead_letters(database, case)
    if message.end is not End.DEAD:
        assert found == []
        if message.end is End.EXPIRES:
            assert database.result(case)["finished_at"] is not None
            assert database.effects(case) == 0
        return
    assert [row["reason"] for row in found] == [message.why]
    (row,) = found
    assert bytes(row["body"]) == message.body_for(case), "kept byte for byte"
    result = database.result(row["task_id"])
    assert (result["state"], result["reason"]) == ("dead", message.why)
    if message.why != "permanent":
        assert database.attempts(row["task_id"]) == []
        assert (
            database.rows("SELECT 1 FROM reliable_tasks.claims WHERE task_id = :id", id=row["task_id"]) == []
        )
    assert database.effects(case) == 0


def test_what_only_looks_bad_runs_once(batch: dict[str, BadMessage], database: Database) -> None:
    for case, message in batch.items():
        if message.end is End.RUNS and not message.plain and "key" not in message.name:
            assert database.effects(case) == 1, case


def test_the_worker_is_the_same_process_and_still_works(
    batch: dict[str, BadMessage], around: Deployment, running: Any, database: Database
) -> None:
    good = BadMessage("good", End.RUNS, "it is good")
    (case,) = send(around, [good], f"b{secrets.token_hex(4)}")
    database.until(case, "succeeded")
    assert database.result(case)["name"] == TARGET.keyed
    assert running.poll() is None
    assert "Traceback" not in around.log("services")


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_an_operators_terminal_is_shown_all_of_it_and_obeys_none_of_it(
    batch: dict[str, BadMessage], around: Deployment, database: Database, output: str
) -> None:
    listed = dead_letters_command(around, "list", "--limit", "1000", "--output", output)
    strange = next(case for case in batch if case.endswith("text-strange-in-a-dead-letter"))
    shown = dead_letters_command(around, "show", str(database.dead_letter(strange)["id"]), "--output", output)
    for text in (listed, shown):
        # ESC, BEL, CSI in one byte, right-to-left override, zero-width space
        assert not set("\x1b\x07\x9b\u202e\u200b\x00") & set(text)
    assert "\\u202e" in shown
    if output != "csv":
        assert len(listed.splitlines()) <= len(database.rows("SELECT 1 FROM reliable_tasks.dead_letters")) + 5


def dead_letters_command(around: Deployment, *words: str) -> str:
    done = around.python("-m", "reliable_tasks.cli.main", "dead-letters", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout
