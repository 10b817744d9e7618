"""Many tasks share a commit, and each ends as it would have by itself."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from reliable_tasks.store import batches, results
from reliable_tasks.store.engine import begin
from reliable_tasks.store.identity import new_id
from tests.database import Database
from tests.deployment import Deployment
from tests.integration.together.conftest import APPLICATION
from tests.waiting import wait_until

COMMITS = "SELECT count(DISTINCT xmin::text) FROM reliable_tasks.results"
ENDED = "SELECT count(*) FROM reliable_tasks.results WHERE finished_at IS NOT NULL"
LOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
WAITING = "SELECT count(*) FROM reliable_tasks.results WHERE finished_at IS NULL"


def test_a_burst_of_tasks_shares_commits(
    deployment: Deployment, database: Database, send: Any, pool: tuple[str, ...]
) -> None:
    ids = send(*(("add", f"a{number}", number) for number in range(120)))
    with deployment.worker(APPLICATION, "worker", *pool):
        for number, task_id in enumerate(ids):
            row = database.until(task_id, "succeeded")
            assert row["result"].tobytes() == str(number + 1).encode()
            assert row["enqueued_at"] <= row["started_at"] <= row["finished_at"]
            assert (row["attempt"], row["idempotency_key"], row["kwargs"]["number"]) == (
                1,
                f"add:a{number}",
                number,
            )
    assert database.one(COMMITS) < (10 if "solo" in pool else 40)
    assert database.one("SELECT count(*) FROM reliable_tasks.attempts") == 120
    states = database.rows(
        "SELECT state, fence, attempts, count(*) FROM reliable_tasks.claims GROUP BY 1, 2, 3"
    )
    assert states == [{"state": "succeeded", "fence": 1, "attempts": 1, "count": 120}]


def test_a_key_that_comes_twice_in_a_burst_is_done_once(
    deployment: Deployment, database: Database, send: Any, pool: tuple[str, ...]
) -> None:
    twice = send(("add", "a", 1), ("add", "a", 1), ("add", "b", 1))
    with deployment.worker(APPLICATION, "worker", *pool):
        database.wait_for(ENDED, 3)
        (conflicting,) = send(("add", "a", 2))
        assert database.until(conflicting, "dead")["reason"] == "conflict"
    # which of the two comes first is the processes' affair
    ends = {database.state(task_id): task_id for task_id in twice[:2]}
    assert set(ends) == {"succeeded", "duplicate"}
    assert database.result(ends["duplicate"])["duplicate_of"] == ends["succeeded"]
    assert database.suppressed(ends["duplicate"]) == ["duplicate"]
    assert [len(database.attempts(ends[state])) for state in ("succeeded", "duplicate")] == [1, 0]
    assert database.state(twice[2]) == "succeeded"


def test_what_fails_in_a_burst_ends_alone_and_was_executed_once(
    deployment: Deployment, database: Database, send: Any, pool: tuple[str, ...]
) -> None:
    good, bad, flaky, big, after = send(
        ("add", "a", 1), ("refused", "b", 1), ("flaky", "c", 1), ("big", "d", 1), ("add", "e", 1)
    )
    with deployment.services(APPLICATION), deployment.worker(APPLICATION, "worker", *pool):
        assert database.until(bad, "dead")["reason"] == "permanent"
        assert database.until(flaky, "succeeded", 40)["attempt"] == 2
        assert database.until(big, "succeeded")["result"].tobytes() == str(10**40).encode()
        for task_id in (good, after):
            database.until(task_id, "succeeded")
    assert (deployment.place / "began-b").read_text() == "x"
    assert database.dead_letter(bad)["exception_type"] == "PermanentError"
    assert [row["state"] for row in database.attempts(flaky)] == ["failed", "succeeded"]


def test_what_tasks_of_a_burst_send_is_sent_once_and_only_with_them(
    deployment: Deployment, database: Database, send: Any
) -> None:
    send(*(("told", f"t{number % 5}", number % 5) for number in range(10)))
    with deployment.services(APPLICATION), deployment.worker(APPLICATION, "worker", "-c", "2"):
        database.wait_for(ENDED, 15)
    counts = database.rows(
        "SELECT split_part(name, '.', 5) AS task, state, count(*) FROM reliable_tasks.results "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert [tuple(row.values()) for row in counts] == [
        ("add", "succeeded", 5),
        ("told", "duplicate", 5),
        ("told", "succeeded", 5),
    ]


def test_a_task_that_was_cancelled_before_its_burst_is_not_done(
    deployment: Deployment, database: Database, send: Any
) -> None:
    first, cancelled, last = send(("add", "a", 1), ("add", "b", 1), ("add", "c", 1))
    done = deployment.python(
        "-m", "reliable_tasks.cli.main", "tasks", "cancel", cancelled, "--because", "a mistake", "--yes"
    )
    assert done.returncode == 0, done.stderr
    with deployment.worker(APPLICATION, "worker", "-c", "2"):
        for task_id in (first, last):
            database.until(task_id, "succeeded")
        database.wait_for(
            "SELECT count(*) FROM reliable_tasks.suppressed_deliveries WHERE task_id = :id", 1, id=cancelled
        )
    assert database.state(cancelled) == "cancelled"
    assert database.rows("SELECT key FROM reliable_tasks.claims WHERE key = 'add:b'") == []


@pytest.mark.parametrize("task", ["add", "pay", "pay_in_batches"])
@pytest.mark.parametrize(
    "point",
    [
        "worker.before_commit",
        "worker.after_commit_before_ack",
        "worker.after_effect",
        "worker.parent_before_settle",
    ],
)
def test_nothing_of_a_burst_is_lost_or_done_twice_when_a_process_dies_at(
    deployment: Deployment, database: Database, send: Any, point: str, task: str
) -> None:
    ids = send(*((task, f"a{number}", number) for number in range(60)))
    failpoint = {
        "RELIABLE_TASKS_FAILPOINT": f"{point}:kill:2",
        "RELIABLE_TASKS_FAILPOINT_MARKS": str(deployment.place),
    }
    if point == "worker.parent_before_settle":
        command = ("celery", "-A", APPLICATION, "worker", "-c", "2")
        with deployment.program("first", *command, **failpoint) as worker:
            assert worker.wait(60) == -9
    with deployment.worker(APPLICATION, "worker", "-c", "2", **failpoint):
        for task_id in ids:
            database.until(task_id, "succeeded", 40)
    counts = database.rows(
        "SELECT count(*) AS rows, count(DISTINCT task_id) AS ids FROM reliable_tasks.attempts WHERE state = 'succeeded'"
    )
    assert counts == [{"rows": 60, "ids": 60}]
    assert database.one(WAITING) == 0
    effects = database.one("SELECT count(*) FROM effects")
    assert effects == database.one("SELECT count(DISTINCT key) FROM effects") == (0 if task == "add" else 60)
    assert list(deployment.place.glob(f"{point}*"))


def test_a_killer_in_a_burst_takes_no_innocent_with_it(
    deployment: Deployment, database: Database, send: Any
) -> None:
    ids = send(*(("add", f"a{number}", number) for number in range(20)), ("killer", "k", 1))
    with deployment.worker(APPLICATION, "worker", "-c", "1"):
        for task_id in ids:
            database.until(task_id, "succeeded", 40)
    assert (deployment.place / "began-k").read_text() == "xx"


def test_what_comes_under_the_id_of_another_in_a_burst_is_not_acked_away(
    deployment: Deployment, database: Database
) -> None:
    task_id = str(new_id())
    program = f"""
from {APPLICATION} import add
for case in "ab":
    add.apply_async(kwargs={{"case": case, "number": 1}}, task_id={task_id!r})
"""
    sent = deployment.python("-c", program)
    assert sent.returncode == 0, sent.stderr
    with deployment.worker(APPLICATION, "worker", "-c", "2"):
        database.wait_for("SELECT count(*) FROM reliable_tasks.claims WHERE state = 'succeeded'", 2)
    keys = [row["idempotency_key"] for row in database.attempts(task_id)]
    assert sorted(keys) == ["add:a", "add:b"]


def test_a_task_that_is_cancelled_while_its_burst_is_recorded_takes_the_others_back(
    database: Database,
) -> None:
    now = datetime.now(UTC)
    ids = [str(new_id()) for _ in range(2)]
    burst = [
        {"id": UUID(one), "task_id": one, "name": "t", "idempotency_key": one, "fingerprint": b"f",
         "started_at": now, "finished_at": now}
        for one in ids
    ]  # fmt: skip
    with database.engine.connect() as canceller, ThreadPoolExecutor(1) as threads:
        assert results.cancel(canceller, ids[1], finished_at=now)
        with begin(database.engine) as connection:
            recording = threads.submit(batches.record, connection, burst)
            wait_until(lambda: database.one(LOCKED) == 1, "the burst waits for who cancels")
            canceller.commit()
            assert recording.result(10) is None
            connection.rollback()
    assert (database.state(ids[0]), database.state(ids[1])) == (None, "cancelled")
