"""Cancelling tasks that have not started."""

from contextlib import closing
from pathlib import Path

import pika

from tests.integration.operating.operator import APPLICATION, Operator
from tests.programs import kill
from tests.waiting import wait_until

IN_TRANSACTION = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction' AND pid <> pg_backend_pid()
"""

ASK = f"import sys; from {APPLICATION} import app; app.AsyncResult(sys.argv[1]).get(timeout=20)"


def ready(operator: Operator, queue: str) -> int:
    """Messages that no worker has taken."""
    with closing(pika.BlockingConnection(pika.URLParameters(operator.around.broker_url))) as connection:
        found = connection.channel().queue_declare(queue, passive=True)
        return int(found.method.message_count)


def test_a_task_in_the_outbox_is_withdrawn(idle: Operator) -> None:
    task_id = idle.send("pay", options={"countdown": 3600}, order_id="c1", account="c1", amount="1")
    (done,) = idle.rows("tasks", "cancel", task_id, "--because", "wrong order", "--yes")
    assert (done["outcome"], done["detail"]) == ("cancelled", "not sent yet")
    assert idle.database.rows("SELECT * FROM reliable_tasks.outbox") == []
    assert idle.database.result(task_id)["reason"] == "wrong order"
    assert idle.rows("tasks", "cancel", task_id, "--yes")[0]["outcome"] == "nothing"
    (event,) = [row for row in idle.rows("results", "timeline", task_id) if row["event"] == "task.cancel"]
    assert event["detail"].endswith("wrong order")
    asked = idle.around.python("-c", ASK, task_id)
    assert asked.stderr.endswith("celery.exceptions.TaskRevokedError: cancelled, wrong order\n")


def test_a_message_whose_task_was_cancelled_runs_nothing(idle: Operator) -> None:
    idle.database.rows("INSERT INTO accounts VALUES ('c2', 100)")
    cancelled = idle.send("pay", order_id="c2", account="c2", amount="1")
    idle.run("tasks", "cancel", cancelled, "--yes")
    kept = idle.send("pay", order_id="c2b", account="c2", amount="1")
    with idle.around.worker(APPLICATION, "worker", "-c", "1"):
        idle.database.until(kept, "succeeded")
        wait_until(lambda: idle.database.suppressed(cancelled), "the cancelled delivery")
    assert idle.database.state(cancelled) == "cancelled"
    assert idle.database.effects("c2") == 0


def test_a_replay_that_is_cancelled_in_time_does_nothing(idle: Operator) -> None:
    with idle.around.worker(APPLICATION, "worker", "-c", "1"):
        task_id, number = idle.died_of_no_funds("c3")
    idle.fund("c3")
    idle.run("dead-letters", "replay", str(number), "--yes")
    idle.run("tasks", "cancel", task_id, "--yes")
    assert idle.database.rows("SELECT * FROM reliable_tasks.outbox") == []
    assert [row["state"] for row in idle.dead_letters(task_id)] == ["resolved"]
    with idle.around.services(APPLICATION):
        wait_until(
            lambda: idle.dead_letters(task_id)[0]["collected_at"], "the collector to take the old message"
        )
    assert idle.database.state(task_id) == "cancelled"


def test_what_has_ended_is_not_cancelled(operator: Operator) -> None:
    operator.database.rows("INSERT INTO accounts VALUES ('c4', 100)")
    task_id = operator.send("pay", order_id="c4", account="c4", amount="1")
    operator.database.until(task_id, "succeeded")
    (done,) = operator.rows("tasks", "cancel", task_id, "--yes", code=1)
    assert (done["outcome"], done["detail"]) == ("refused", "it is succeeded")


def test_a_task_that_runs_is_not_cancelled(operator: Operator, tmp_path: Path) -> None:
    task_id = operator.send("slow", gate=str(tmp_path / "gate"))
    operator.database.until(task_id, "running")
    (done,) = operator.rows("tasks", "cancel", task_id, "--yes", code=1)
    assert (done["outcome"], done["detail"]) == ("refused", "it is running")
    (tmp_path / "gate").touch()
    operator.database.until(task_id, "succeeded")


def test_a_payment_that_is_cancelled_while_it_is_made_is_undone(operator: Operator, tmp_path: Path) -> None:
    task_id = operator.send("slow_pay", order_id="c5", gate=str(tmp_path / "gate"))
    wait_until((tmp_path / "gate.begun").exists, "the payment to have begun")
    (done,) = operator.rows("tasks", "cancel", task_id, "--yes")
    assert done["outcome"] == "cancelled"
    (tmp_path / "gate").touch()
    # one of the two processes is free for it only when the other has ended, or at once: both are fine
    operator.database.until(
        operator.send("slow_pay", order_id="c6", gate=str(tmp_path / "gate")), "succeeded"
    )
    wait_until(lambda: not operator.database.rows(IN_TRANSACTION), "the payment to have ended")
    assert operator.database.state(task_id) == "cancelled"
    assert operator.database.effects("c5") == 0


def test_what_a_worker_has_taken_and_not_begun_stays_cancelled_after_a_restart(
    idle: Operator, tmp_path: Path
) -> None:
    """Celery's revoke is a list in the memory of the workers that hear of it."""
    with idle.around.worker(APPLICATION, "first", "-c", "1") as worker:
        running = idle.send("slow_pay", order_id="c7", gate=str(tmp_path / "gate"))
        wait_until((tmp_path / "gate.begun").exists, "the worker to be busy")
        taken = idle.send("slow_pay", order_id="c8", gate=str(tmp_path / "gate"))
        wait_until(lambda: not ready(idle, "payments"), "the worker to have taken the second")
        assert idle.rows("tasks", "cancel", taken, "--yes")[0]["outcome"] == "cancelled"
        queued = idle.send("slow_pay", order_id="c9", gate=str(tmp_path / "gate"))
        kill(worker)
    idle.run("tasks", "cancel", queued, "--yes")
    (tmp_path / "gate").touch()
    with idle.around.worker(APPLICATION, "second", "-c", "1"):
        idle.database.until(running, "succeeded")
        suppressed = idle.database.suppressed
        wait_until(lambda: suppressed(taken) and suppressed(queued), "both cancelled deliveries")
    assert [idle.database.state(task_id) for task_id in (taken, queued)] == ["cancelled", "cancelled"]
    assert [idle.database.effects(key) for key in ("c7", "c8", "c9")] == [1, 0, 0]
