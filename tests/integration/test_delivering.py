"""One delivery at a time, in this process: what is committed when something fails behind the task's function."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject
from sqlalchemy import text

from reliable_tasks import CallAgain, PermanentError, ReliableCelery, Retry, TaskContext, TransientError
from reliable_tasks.errors import ArgumentError
from reliable_tasks.operate.dead_letters import Known, Operator, replay
from reliable_tasks.settings import load_settings
from reliable_tasks.store import claims, key_retention
from reliable_tasks.store.engine import begin
from reliable_tasks.store.identity import new_id
from reliable_tasks.worker.arguments import fingerprint
from reliable_tasks.worker.trace import trace
from tests.chaos.clock import wrong_by
from tests.integration.applied_topology import TOPOLOGY

CALLS: list[str] = []
HOOKS: list[Callable[[str], None]] = []
"""What happens meanwhile, in the call."""

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body")


def declare_tasks(app: Any) -> None:
    @app.task(name="plain", shared=False)
    def plain(word: str = "") -> None: ...

    @app.idempotent_task(key="next:{number}", effects="none", name="next", shared=False)
    def following(ctx: TaskContext, number: int) -> None: ...

    @app.idempotent_task(key="pay:{order}", effects="database", name="pay", shared=False)
    def pay(ctx: TaskContext, order: str, end: str = "") -> str:
        ctx.session.execute(text("INSERT INTO effects VALUES (:o)"), {"o": order})
        ctx.enqueue(plain.s("sent"))
        if end == "ignore":
            raise Ignore
        if end == "replace":
            raise pay.replace(plain.s("instead"))
        if end == "again":
            raise TransientError("the other side is busy")
        if end == "reject":
            raise Reject("not now", requeue=True)
        if end == "unstorable":
            return object()  # type: ignore[return-value]
        return "paid"

    declare_others(app, plain)


def declare_others(app: Any, plain: Any) -> None:
    @app.idempotent_task(
        key="tell:{order}",
        effects="external",
        name="tell",
        shared=False,
        on_uncertain=CallAgain(),
        retry=Retry(max_attempts=2),
    )
    def tell(ctx: TaskContext, order: str) -> str:
        CALLS.append(order)
        for meanwhile in HOOKS:
            meanwhile(order)
        ctx.enqueue(plain.s("sent"))
        return "told"

    @app.idempotent_task(key="quiet:{order}", dead_letter=False, name="quiet", shared=False)
    def quiet(ctx: TaskContext, order: str) -> None:
        raise PermanentError("no funds")


@pytest.fixture
def app(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # nothing is sent to a broker here: what a task sends is in the outbox
    settings = load_settings(
        {
            "RELIABLE_TASKS_BROKER_URL": "amqp://nobody:x@127.0.0.1:9/",
            "RELIABLE_TASKS_DATABASE_URL": fresh_database,
        }
    )
    monkeypatch.setattr(os, "environ", dict(os.environ))
    app = ReliableCelery("delivering", topology=TOPOLOGY, settings=settings, set_as_current=True)

    declare_tasks(app)
    with begin(app.runtime.engine) as connection:
        connection.execute(text("CREATE TABLE effects (name text)"))
    CALLS.clear()
    HOOKS.clear()
    app.finalize()
    for task in app.tasks.values():
        # as a pool process does when it starts
        task.__trace__ = build_tracer(task.name, task, app.loader, "here", app=app)
    yield app
    app.runtime.engine.dispose()


def deliver(
    app: Any, name: str, *args: Any, task_id: str | None = None, body: bytes | None = None, **more: Any
) -> str:
    """Give one message to the pool's function; returns the settlement."""
    task_id = task_id or str(new_id())
    headers = {"id": task_id, "task": name, "root_id": task_id, **more.pop("headers", {})}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **more}
    body = body or json.dumps([args, {}, embed]).encode()
    request = {
        **headers,
        "delivery_info": {"routing_key": "default", **more.pop("info", {})},
        "hostname": "here",
    }
    return trace(name, task_id, request, body, "application/json", "utf-8", headers, None)[1]


def rows(app: Any, query: str) -> list[Any]:
    with begin(app.runtime.engine) as connection:
        return list(connection.execute(text(query)).mappings())


def states(app: Any, table: str) -> list[str]:
    return [row["state"] for row in rows(app, f"SELECT state FROM reliable_tasks.{table} ORDER BY state")]


def sent(app: Any) -> list[str]:
    found = rows(app, "SELECT * FROM reliable_tasks.outbox ORDER BY id")
    return [f"{row['task_name']}{json.loads(bytes(row['body']))[0]}" for row in found]


def test_a_continuation_that_cannot_be_sent_undoes_the_effect(app: Any) -> None:
    callbacks = [
        app.signature("plain", args=["linked"], immutable=True),
        app.signature("next", queue="default"),
    ]
    errbacks = [app.signature("plain", args=["heard"], immutable=True)]
    # "paid" is no number
    assert deliver(app, "pay", "a", callbacks=callbacks, errbacks=errbacks) == "reject"
    assert states(app, "results") == ["dead"]
    assert states(app, "claims") == ["dead"]
    assert rows(app, "SELECT * FROM effects") == []
    assert sent(app) == ["plain['heard']"]
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    assert "number" in letter["exception_message"]
    assert letter["reason"] == "permanent"


def test_a_result_that_cannot_be_stored_undoes_the_effect(app: Any) -> None:
    assert deliver(app, "pay", "a", "unstorable") == "reject"
    assert (states(app, "results"), states(app, "claims")) == (["dead"], ["dead"])
    assert rows(app, "SELECT * FROM effects") == []
    assert sent(app) == []


def test_a_duplicate_whose_continuation_cannot_be_sent_has_one_end(app: Any) -> None:
    assert deliver(app, "pay", "a") == "ack"
    assert deliver(app, "pay", "a", callbacks=[app.signature("next")]) == "reject"
    assert states(app, "results") == ["dead", "succeeded"]
    assert states(app, "claims") == ["succeeded"]
    assert states(app, "dead_letters") == ["open"]
    assert len(rows(app, "SELECT * FROM effects")) == 1


def test_a_call_whose_continuation_cannot_be_sent_is_dead_in_doubt(app: Any) -> None:
    assert deliver(app, "tell", "a", callbacks=[app.signature("next")]) == "reject"
    (claim,) = rows(app, "SELECT * FROM reliable_tasks.claims")
    assert (claim["state"], claim["may_have_acted"]) == ("dead", 1)
    # the call has happened, and what it sent belongs to it
    assert sent(app) == ["plain['sent']"]


@pytest.mark.parametrize(("end", "then"), [("ignore", []), ("replace", ["plain['instead']"])])
def test_the_effect_of_a_task_that_ends_by_ignore_is_kept(app: Any, end: str, then: list[str]) -> None:
    assert deliver(app, "pay", "a", end) == "ack"
    assert states(app, "claims") == ["succeeded"]
    assert len(rows(app, "SELECT * FROM effects")) == 1
    assert sent(app) == ["plain['sent']", *then]


def test_a_rejected_attempt_sends_nothing(app: Any) -> None:
    assert deliver(app, "pay", "a", "reject") == "requeue"
    assert rows(app, "SELECT * FROM effects") == []
    assert sent(app) == []


def test_a_failed_task_that_comes_again_is_no_dead_letter(app: Any) -> None:
    task_id = str(new_id())
    for _ in range(2):
        assert deliver(app, "quiet", "a", task_id=task_id) == "ack"
    assert (states(app, "results"), states(app, "claims"), states(app, "dead_letters")) == (
        ["failed"],
        ["failed"],
        [],
    )


def test_a_call_that_may_have_happened_does_not_end_as_expired(app: Any) -> None:
    """Its worker died, its key was busy when it came again, and meanwhile its time was over."""
    task_id = str(new_id())
    request = claims.ClaimRequest(
        "tell", "tell:a", fingerprint("tell", {"order": "a"}), task_id, uuid4(), timedelta(0), may_act=True
    )
    with begin(app.runtime.engine) as connection:
        assert isinstance(claims.take(connection, request), claims.Owned)
    deliver(app, "tell", "a", task_id=task_id, headers={"expires": "2020-01-01T00:00:00+00:00"})
    assert states(app, "results") == ["succeeded"]


def test_a_task_whose_key_another_has_taken_over_ends_as_its_duplicate(app: Any) -> None:
    def overtaken(order: str) -> None:
        if len(CALLS) == 1:
            with begin(app.runtime.engine) as connection:
                connection.execute(text("UPDATE reliable_tasks.claims SET lease_until = clock_timestamp()"))
            deliver(app, "tell", "a")

    HOOKS.append(overtaken)
    first = str(new_id())
    assert deliver(app, "tell", "a", task_id=first) == "ack"
    assert states(app, "results") == ["running", "succeeded"]
    (again,) = rows(app, f"SELECT * FROM reliable_tasks.outbox WHERE task_id = '{first}'")
    assert deliver(app, "tell", task_id=first, body=bytes(again["body"])) == "ack"
    assert states(app, "results") == ["duplicate", "succeeded"]
    assert CALLS == ["a", "a"]  # it calls again, since it was told that it may


def test_a_message_whose_key_is_forgotten_is_a_dead_letter_and_not_replayed(app: Any) -> None:
    with begin(app.runtime.engine) as connection:
        key_retention.forget(connection, timedelta(days=30), 10)
    old = {"rt-enqueued-at": "2020-01-01T00:00:00+00:00"}
    assert deliver(app, "pay", "a", headers=old) == "reject"
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    assert letter["reason"] == "beyond_retention"
    assert "2020-01-01 00:00 UTC" in letter["exception_message"]
    assert rows(app, "SELECT * FROM effects") == []
    known = Known(queue=lambda _queue: True, task=lambda _task: True)
    (done,) = replay(app.runtime.engine, [letter["id"]], Operator("ann"), known)
    assert (done.outcome, "forgotten" in str(done.detail)) == ("refused", True)


def test_a_task_that_has_succeeded_is_no_dead_letter_when_its_key_is_forgotten(app: Any) -> None:
    task_id, old = str(new_id()), {"rt-enqueued-at": "2020-01-01T00:00:00+00:00"}
    assert deliver(app, "pay", "a", task_id=task_id, headers=old) == "ack"
    with begin(app.runtime.engine) as connection:
        connection.execute(text("UPDATE reliable_tasks.claims SET first_seen = '2020-01-01'"))
        assert key_retention.forget(connection, timedelta(days=30), 10) == 1
    assert deliver(app, "pay", "a", task_id=task_id, headers=old) == "ack"
    assert (states(app, "results"), states(app, "dead_letters")) == (["succeeded"], [])
    assert len(rows(app, "SELECT * FROM effects")) == 1


def test_a_task_due_later_than_keys_are_kept_is_refused_where_it_is_sent(app: Any) -> None:
    with pytest.raises(ArgumentError, match="keys are kept for 7776000 s only"):
        app.tasks["plain"].apply_async(countdown=91 * 24 * 3600)
    app.tasks["plain"].apply_async(countdown=89 * 24 * 3600)
    assert sent(app) == ["plain[]"]


def test_a_retry_by_a_worker_whose_clock_is_an_hour_ahead_is_not_an_hour_late(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reliable_tasks.worker.publishing.datetime", wrong_by(timedelta(hours=1)))
    assert deliver(app, "pay", "a", "again") == "ack"
    (again,) = rows(app, "SELECT due_at FROM reliable_tasks.outbox")
    assert again["due_at"] < datetime.now(UTC) + timedelta(minutes=1)
