"""A replay is one transaction: operators at the same moment, and a failure in the middle of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from reliable_tasks.model.states import TaskState
from reliable_tasks.operate import dead_letters as operate
from reliable_tasks.store import dead_letters, results
from reliable_tasks.store.engine import begin

KNOWN = operate.Known(queue={"payments"}.__contains__, task={"pay"}.__contains__)
OPERATOR = operate.Operator("tester", "funded")
BODY = b'[[], {"order_id": "1"}, {}]'


def dead_letter(engine: Any, task_id: str = "t1", **values: Any) -> int:
    """A dead task with its dead letter."""
    row = {
        "task_id": task_id,
        "replay": 0,
        "task_name": "pay",
        "reason": "exhausted",
        "queue": "payments",
        "body": BODY,
        "headers": {
            "id": task_id,
            "task": "pay",
            "retries": 4,
            "expires": "2020-01-01T00:00:00",
            "x-death": [],
        },
        "properties": {"content_type": "application/json", "priority": 2},
        **values,
    }
    with begin(engine) as connection:
        dead_letters.add(connection, row)
        ended = {"name": "pay", "queue": "payments", "finished_at": datetime.now(UTC)}
        results.store(connection, task_id, TaskState.DEAD, ended)
        return int(dead_letters.of_task(connection, task_id)[0]["id"])


def rows(engine: Any, query: str) -> list[Any]:
    with begin(engine) as connection:
        return list(connection.execute(text(query)).mappings())


def test_many_operators_at_once_replay_once(engine: Any) -> None:
    number = dead_letter(engine)

    def replay(_: int) -> str:
        return next(operate.replay(engine, [number], OPERATOR, KNOWN)).outcome

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(replay, range(8)))
    assert outcomes == ["nothing"] * 7 + ["replayed"]
    assert len(rows(engine, "SELECT 1 FROM reliable_tasks.outbox")) == 1
    assert len(rows(engine, "SELECT 1 FROM reliable_tasks.operator_actions")) == 1


def test_the_message_is_the_same_with_its_replay_number(engine: Any) -> None:
    number = dead_letter(engine)
    list(operate.replay(engine, [number], OPERATOR, KNOWN))
    (row,) = rows(engine, "SELECT * FROM reliable_tasks.outbox")
    assert (bytes(row["body"]), row["task_id"], row["queue"], row["priority"]) == (BODY, "t1", "payments", 2)
    assert row["headers"] == {"id": "t1", "task": "pay", "retries": 0, "rt-replay": 1}
    assert row["properties"] == {"content_type": "application/json"}


def test_a_failure_in_the_middle_leaves_everything_as_it_was(engine: Any) -> None:
    number = dead_letter(engine)
    with begin(engine) as connection:
        connection.execute(text("ALTER TABLE reliable_tasks.outbox ADD CHECK (task_id <> 't1')"))
    with pytest.raises(DBAPIError):
        list(operate.replay(engine, [number], OPERATOR, KNOWN))
    assert operate.show(engine, number)["state"] == "open"
    assert [row["state"] for row in rows(engine, "SELECT state FROM reliable_tasks.results")] == ["dead"]
    assert rows(engine, "SELECT 1 FROM reliable_tasks.operator_actions") == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"task_name": "gone"}, "no task gone is registered"),
        ({"task_name": None, "reason": "undecodable"}, "does not say which task"),
        ({"queue": "elsewhere"}, "no queue elsewhere"),
        ({"reason": "conflict"}, "another payload"),
        ({"reason": "uncertain"}, "may have happened"),
    ],
)
def test_what_would_die_again_is_refused(engine: Any, values: dict[str, Any], told: str) -> None:
    number = dead_letter(engine, **values)
    (done,) = operate.replay(engine, [number], OPERATOR, KNOWN)
    assert done.outcome == "refused"
    assert told in str(done.detail)
    assert rows(engine, "SELECT 1 FROM reliable_tasks.outbox") == []


def test_an_undecodable_message_of_a_known_task_is_replayed_once_the_application_is_named(
    engine: Any,
) -> None:
    number = dead_letter(engine, reason="undecodable")
    (refused,) = operate.replay(engine, [number], OPERATOR, operate.Known(KNOWN.queue))
    assert "-A" in str(refused.detail)
    (done,) = operate.replay(engine, [number], OPERATOR, KNOWN)
    assert done.outcome == "replayed"


def test_a_result_that_was_deleted_comes_back_with_the_replay(engine: Any) -> None:
    number = dead_letter(engine)
    with begin(engine) as connection:
        results.forget(connection, "t1")
    list(operate.replay(engine, [number], OPERATOR, KNOWN))
    found = rows(engine, "SELECT state, replay FROM reliable_tasks.results")
    assert [(row["state"], row["replay"]) for row in found] == [("enqueued", 1)]


def test_pages_follow_each_other(engine: Any) -> None:
    numbers = [dead_letter(engine, f"t{n}") for n in range(5)]
    seen: list[int] = []
    while page := operate.page(engine, operate.Filter(), after=seen[-1] if seen else 0, limit=2):
        seen += [row["id"] for row in page]
    assert seen == numbers
    assert operate.matching(engine, operate.Filter(reason="exhausted")) == numbers
    assert operate.matching(engine, operate.Filter(queue="other")) == []
