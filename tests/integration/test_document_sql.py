"""The SQL of the documentation on Celery's result tables runs unchanged against a migrated database."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from reliable_tasks.model.states import TaskState
from reliable_tasks.store import results
from reliable_tasks.store.engine import begin, create_engine

HISTORY = """
SELECT task_id, name, status, date_done, result
FROM celery_taskmeta
WHERE status = 'SUCCESS'
ORDER BY date_done DESC
LIMIT 100;
"""
FAILURES = """
SELECT task_id, name, traceback, date_done
FROM celery_taskmeta
WHERE status = 'FAILURE'
AND date_done > NOW() - INTERVAL '24 hours';
"""
COMPLETION_RATE = """
SELECT
    status,
    COUNT(*) as count,
    ROUND(100.0 * COUNT(*) / SUM(COUNT(*)) OVER (), 2) as percentage
FROM celery_taskmeta
GROUP BY status;
"""
ACTIVITY = """
SELECT
    DATE_TRUNC('hour', date_done) as hour,
    name as task_name,
    status,
    COUNT(*) as count
FROM celery_taskmeta
WHERE date_done > NOW() - INTERVAL '24 hours'
GROUP BY 1, 2, 3
ORDER BY 1 DESC;
"""
DURATION = """
SELECT
    name,
    AVG(EXTRACT(EPOCH FROM (date_done - date_started))) as avg_duration_seconds
FROM celery_taskmeta
WHERE status = 'SUCCESS'
GROUP BY name;
"""
DELETE_ENDED = """
DELETE FROM celery_taskmeta
WHERE date_done < NOW() - INTERVAL '30 days'
  AND status IN ('SUCCESS', 'FAILURE');
"""
ARCHIVE = """
INSERT INTO celery_taskmeta_archive
SELECT * FROM celery_taskmeta
WHERE date_done < NOW() - INTERVAL '30 days';
"""
DELETE_OLD = """
DELETE FROM celery_taskmeta
WHERE date_done < NOW() - INTERVAL '30 days';
"""

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=31)


@pytest.fixture
def engine(fresh_database: str) -> Iterator[Any]:
    engine = create_engine(fresh_database)
    yield engine
    engine.dispose()


def ended(connection: Any, task_id: str, state: TaskState, finished_at: datetime, **values: Any) -> None:
    row = {
        "name": "pay",
        "started_at": finished_at - timedelta(seconds=2),
        "finished_at": finished_at,
        **values,
    }
    assert results.store(connection, task_id, state, row)


@pytest.fixture
def filled(engine: Any) -> Any:
    """Two successes and a failure of today, one success and one cancelled task of more than 30 days ago."""
    with begin(engine) as connection:
        ended(connection, "paid", TaskState.SUCCEEDED, NOW, result=b'{"amount": "10.10"}')
        ended(connection, "paid-too", TaskState.SUCCEEDED, NOW)
        ended(connection, "broke", TaskState.DEAD, NOW, traceback="Traceback: no funds")
        ended(connection, "old", TaskState.SUCCEEDED, OLD)
        ended(connection, "old-cancelled", TaskState.CANCELLED, OLD)
    return engine


def rows(engine: Any, statement: str) -> list[Any]:
    with begin(engine) as connection:
        return list(connection.execute(text(statement)).mappings())


def run(engine: Any, statement: str) -> int:
    with begin(engine) as connection:
        return int(connection.execute(text(statement)).rowcount)


def test_job_history(filled: Any) -> None:
    found = rows(filled, HISTORY)
    assert {row["task_id"] for row in found} == {"paid", "paid-too", "old"}
    assert found[-1]["task_id"] == "old"
    assert {"amount": "10.10"} in [row["result"] for row in found]


@pytest.mark.parametrize(
    "result", [b'{"rate": NaN}', b"[-Infinity]", b'"\\ud800"', b'"a\\u0000"', b"not json"]
)
def test_a_result_that_jsonb_cannot_hold_breaks_no_query(filled: Any, result: bytes) -> None:
    with begin(filled) as connection:
        ended(connection, "odd", TaskState.SUCCEEDED, OLD, result=result)
    assert len(rows(filled, HISTORY)) == 4
    assert run(filled, DELETE_OLD) == 3


def test_failures_of_a_day(filled: Any) -> None:
    found = rows(filled, FAILURES)
    assert [(row["task_id"], row["traceback"]) for row in found] == [("broke", "Traceback: no funds")]


def test_completion_rate(filled: Any) -> None:
    found = {row["status"]: (row["count"], float(row["percentage"])) for row in rows(filled, COMPLETION_RATE)}
    assert found == {"SUCCESS": (3, 60.0), "FAILURE": (1, 20.0), "REVOKED": (1, 20.0)}


def test_activity_by_hour(filled: Any) -> None:
    found = rows(filled, ACTIVITY)
    assert {(row["task_name"], row["status"], row["count"]) for row in found} == {
        ("pay", "SUCCESS", 2),
        ("pay", "FAILURE", 1),
    }
    assert all(row["hour"].tzinfo is not None for row in found)


def test_average_duration(filled: Any) -> None:
    found = rows(filled, DURATION)
    assert [(row["name"], float(row["avg_duration_seconds"])) for row in found] == [("pay", 2.0)]


def test_archive_then_delete(filled: Any) -> None:
    run(filled, ARCHIVE)
    run(filled, DELETE_OLD)
    left = rows(filled, "SELECT task_id FROM celery_taskmeta ORDER BY task_id")
    assert [row["task_id"] for row in left] == ["broke", "paid", "paid-too"]
    kept = rows(filled, "SELECT task_id, status FROM celery_taskmeta_archive ORDER BY task_id")
    assert [tuple(row.values()) for row in kept] == [("old", "SUCCESS"), ("old-cancelled", "REVOKED")]
    receipts = rows(
        filled, "SELECT task_id, content_sha256 FROM reliable_tasks.deletion_receipts ORDER BY task_id"
    )
    assert [row["task_id"] for row in receipts] == ["old", "old-cancelled"]
    assert all(len(row["content_sha256"]) == 64 for row in receipts)


def test_delete_of_what_has_ended_well_or_badly(filled: Any) -> None:
    assert run(filled, DELETE_ENDED) == 1
    left = rows(filled, "SELECT task_id FROM celery_taskmeta")
    assert {row["task_id"] for row in left} == {"paid", "paid-too", "broke", "old-cancelled"}


def test_a_legal_hold_keeps_what_is_deleted(filled: Any) -> None:
    run(
        filled,
        "INSERT INTO reliable_tasks.legal_holds (task_id, reason, placed_by) VALUES ('old', 'case 7', 'auditor')",
    )
    run(filled, DELETE_OLD)
    assert "old" in {row["task_id"] for row in rows(filled, "SELECT task_id FROM celery_taskmeta")}


def test_group_results_are_there(filled: Any) -> None:
    assert rows(filled, "SELECT taskset_id, result, date_done FROM celery_groupmeta") == []
