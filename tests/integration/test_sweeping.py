"""The sweeper: only what nobody else delivers is sent again, and never so that it is done twice."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pika
import pytest
from sqlalchemy import text

from reliable_tasks.errors import DatabaseUnreachable
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.states import TaskState
from reliable_tasks.services.sweeper import Sweeper
from reliable_tasks.store import claims, leases, outbox, results
from reliable_tasks.store.engine import begin
from reliable_tasks.store.verdicts import ClaimRequest, Owned
from tests.database import Database
from tests.deployment import Deployment
from tests.programs import kill
from tests.waiting import wait_until

APPLICATION = "tests.integration.celery_behaviour.application"
EXTERNAL = "tests.integration.celery_behaviour.external_tasks"
SEND = f"""
import sys
from {APPLICATION} import app
print(app.send_task(sys.argv[1], args=sys.argv[2:]).id)
"""
KEPT = Message("t1", "tell", "", "", "default", b"[[], {}, {}]", {"id": "t1", "task": "tell"})


def execution(engine: Any, lease: float, task_id: str = "t1") -> tuple[ClaimRequest, int]:
    """A call that has begun, its lease as long as that."""
    request = ClaimRequest("tell", "k", b"f", task_id, uuid4(), timedelta(seconds=lease), may_act=True)
    with begin(engine) as connection:
        owned = claims.take(connection, request)
        assert isinstance(owned, Owned)
        results.store(connection, task_id, TaskState.RUNNING, {"name": "tell", "idempotency_key": "k"})
        leases.keep(connection, "tell", "k", KEPT)
    return request, owned.fence


def fill(deployment: Deployment, count: int) -> None:
    """Give a paused worker what else it takes, or it would be given the message that is sent again."""
    with closing(pika.BlockingConnection(pika.URLParameters(deployment.broker_url))) as connection:
        channel = connection.channel()
        for _ in range(count):
            channel.basic_publish("commands", "default", b"")
        wait_until(
            lambda: not channel.queue_declare("default", passive=True).method.message_count, "all are taken"
        )


def waiting(engine: Any) -> list[str]:
    with begin(engine) as connection:
        return [row.task_id for row in connection.execute(text("SELECT task_id FROM reliable_tasks.outbox"))]


def claim(engine: Any) -> dict[str, Any]:
    with begin(engine) as connection:
        return claims.get(connection, "tell", "k") or {}


@pytest.fixture
def sweeper(engine: Any) -> Iterator[Sweeper]:
    with closing(Sweeper(engine, timedelta(milliseconds=200))) as sweeper:
        yield sweeper


def test_a_call_whose_lease_is_kept_up_is_left_alone(engine: Any, sweeper: Sweeper) -> None:
    request, fence = execution(engine, 1)

    def extended() -> bool:
        with begin(engine) as connection:
            assert leases.extend(connection, request, fence)
            found: bool = connection.execute(
                text(
                    "SELECT clock_timestamp() > first_seen + interval '2 seconds' FROM reliable_tasks.claims"
                )
            ).scalar_one()
        assert sweeper.run_once() == 0
        return found

    wait_until(extended, "twice the lease to pass", 20)
    assert claim(engine)["state"] == "running"


def test_a_lapsed_call_is_sent_again_in_doubt_once(engine: Any, sweeper: Sweeper) -> None:
    request, fence = execution(engine, 0)
    assert sweeper.run_once() == 0  # seen, and granted its grace
    wait_until(sweeper.run_once, "it is sent again", 10)
    assert sweeper.run_once() == 0
    assert waiting(engine) == ["t1"]
    after = claim(engine)
    assert (after["state"], after["may_have_acted"], after["owner"]) == ("retry_wait", 1, None)
    with begin(engine) as connection:
        assert results.state_of(connection, "t1") is TaskState.RETRY_WAIT
        rows = connection.execute(text("SELECT state, attempt, fence FROM reliable_tasks.attempts")).all()
        assert [tuple(row) for row in rows] == [("lost", 1, fence)]
        # the execution comes back to life, and has lost its key
        assert not leases.extend(connection, request, fence)
        assert not claims.finish(connection, request, fence, "succeeded", may_have_acted=False)
        # whoever is next has to ask first, and loses no second attempt
        taken = claims.take(connection, request)
        assert taken == Owned(fence + 1, 2, may_have_acted=True, takeover=False)


def test_a_call_that_ends_while_it_is_swept_is_not_sent_again(engine: Any, sweeper: Sweeper) -> None:
    request, fence = execution(engine, 0)
    sweeper.run_once()
    with begin(engine) as connection:
        (lapse,) = leases.lapsed(connection, 10)[1]
        # its row is locked by the execution that ends
        assert claims.finish(connection, request, fence, "succeeded", may_have_acted=False)
        with begin(engine) as another:
            assert leases.take_back(another, lapse) is None
        leases.drop(connection, "tell", "k")
    with begin(engine) as connection:
        assert leases.take_back(connection, lapse) is None
    assert waiting(engine) == []


def test_an_outage_of_the_database_is_no_lapse_of_the_workers(engine: Any) -> None:
    with closing(Sweeper(engine, timedelta(seconds=1))) as sweeper:
        request, fence = execution(engine, 0)
        sweeper.run_once()

        def a_second_later() -> bool:
            with begin(engine) as connection:
                mine = text(
                    "SELECT clock_timestamp() > first_seen + interval '2 seconds' FROM reliable_tasks.claims"
                )
                return bool(connection.execute(mine).scalar_one())

        wait_until(a_second_later, "the grace to be over", 10)
        with begin(engine) as connection:
            others = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            )
            connection.execute(text(f"{others} AND pid <> pg_backend_pid()"))
        with pytest.raises(DatabaseUnreachable):
            sweeper.run_once()
        assert sweeper.run_once() == 0
        with begin(engine) as connection:
            assert leases.extend(connection, request, fence)
    assert waiting(engine) == []


def test_one_sweeper_leads(engine: Any, sweeper: Sweeper) -> None:
    sweeper.run_once()
    with closing(Sweeper(engine, timedelta(milliseconds=1))) as second:
        execution(engine, 0)
        for _ in range(3):
            assert second.run_once() == 0
        sweeper.close()
        wait_until(second.run_once, "the second leads", 10)


def test_what_is_sent_again_is_the_message(engine: Any, sweeper: Sweeper) -> None:
    execution(engine, 0)
    wait_until(sweeper.run_once, "it is sent again", 10)
    with begin(engine) as connection:
        ((_, message),) = outbox.due(connection, 10)
    assert (message.body, message.headers, message.queue) == (KEPT.body, KEPT.headers, "default")


@pytest.mark.parametrize(("answer", "calls"), [("done", 1), ("not", 2)])
def test_a_call_whose_worker_and_message_are_gone_is_neither_lost_nor_made_twice(
    deployment: Deployment, answer: str, calls: int
) -> None:
    database = Database(deployment.database_url)
    (deployment.place / "x-answer").write_text(answer)
    with deployment.worker(APPLICATION, "first", "-c", "1") as worker:
        task_id = deployment.python("-c", SEND, f"{EXTERNAL}.tell_and_ask", "x", "hold").stdout.strip()
        wait_until((deployment.place / "x-began").exists, "the call runs")
        kill(worker)
    with closing(pika.BlockingConnection(pika.URLParameters(deployment.broker_url))) as connection:
        channel = connection.channel()
        wait_until(lambda: channel.queue_purge("default").method.message_count, "the message to be gone")
    with (
        deployment.services(APPLICATION, RELIABLE_TASKS_SWEEP_GRACE="1"),
        deployment.worker(APPLICATION, "second", "-c", "1"),
    ):
        database.until(task_id, "succeeded", 30)
    assert len((deployment.place / "x-called").read_text().split()) == calls
    assert [row["state"] for row in database.attempts(task_id)] == ["lost", "succeeded"]


def test_a_paused_worker_whose_message_is_sent_again_calls_once(deployment: Deployment) -> None:
    database = Database(deployment.database_url)
    with (
        deployment.services(APPLICATION, RELIABLE_TASKS_SWEEP_GRACE="1"),
        deployment.worker(APPLICATION, "first", "-c", "1") as worker,
    ):
        task_id = deployment.python("-c", SEND, f"{EXTERNAL}.tell", "x", "hold").stdout.strip()
        wait_until((deployment.place / "x-began").exists, "the call runs")
        os.killpg(worker.pid, signal.SIGSTOP)
        fill(deployment, 3)
        try:
            with deployment.worker(APPLICATION, "second", "-c", "1"):
                # its message is with the paused worker, which still has its connection
                database.until(task_id, "uncertain", 30)
        finally:
            (deployment.place / "x-go").touch()
            os.killpg(worker.pid, signal.SIGCONT)
        wait_until(lambda: "fenced" in database.suppressed(task_id), "the first to find out")
    assert database.state(task_id) == "uncertain"
    assert len((deployment.place / "x-called").read_text().split()) == 1
