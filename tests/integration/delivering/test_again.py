"""Deliveries of what was there before: late, busy, forgotten, overtaken, or after a duplicate's first one."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from reliable_tasks.errors import ArgumentError, ResultDeleted
from reliable_tasks.operate.dead_letters import Known, Operator, replay
from reliable_tasks.store import claims, key_retention
from reliable_tasks.store.engine import begin
from reliable_tasks.store.identity import new_id
from reliable_tasks.store.verdicts import ClaimRequest, Owned
from reliable_tasks.worker.arguments import fingerprint
from tests.chaos.clock import wrong_by
from tests.integration.delivering.one_delivery import CALLS, ENDINGS, HOOKS, deliver, rows, sent, states

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body")


def test_a_call_that_may_have_happened_does_not_end_as_expired(app: Any) -> None:
    """Its worker died, its key was busy when it came again, and meanwhile its time was over."""
    task_id = str(new_id())
    request = ClaimRequest(
        "tell", "tell:a", fingerprint("tell", {"order": "a"}), task_id, uuid4(), timedelta(0), may_act=True
    )
    with begin(app.runtime.engine) as connection:
        assert isinstance(claims.take(connection, request), Owned)
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


def test_a_redelivery_does_not_wait_for_a_long_execution_of_its_key(app: Any) -> None:
    """The process would be lost to all other tasks until the execution ends."""
    task_id = str(new_id())
    request = ClaimRequest(
        "pay", "pay:a", fingerprint("pay", {"order": "a"}), task_id, uuid4(), timedelta(seconds=60)
    )
    with app.runtime.engine.connect() as connection:  # it is never committed while it runs
        assert isinstance(claims.take(connection, request), Owned)
        assert deliver(app, "pay", "a", task_id=task_id, info={"redelivered": True}) == "ack"
    assert sent(app) == ["pay['a']"]
    assert [row["kind"] for row in rows(app, "SELECT kind FROM reliable_tasks.suppressed_deliveries")] == [
        "busy"
    ]


def test_a_duplicate_whose_first_result_is_deleted_is_given_no_empty_one(app: Any) -> None:
    deliver(app, "pay", "a")
    with begin(app.runtime.engine) as connection:
        connection.execute(text("DELETE FROM reliable_tasks.celery_taskmeta"))
    assert deliver(app, "pay", "a") == "reject"
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    assert letter["reason"] == "result_deleted"
    assert states(app, "results") == ["dead"]
    assert len(rows(app, "SELECT * FROM effects")) == 1
    # nobody asks for the result of this one
    assert deliver(app, "pay", "a", headers={"ignore_result": True}) == "ack"
    assert states(app, "results") == ["dead", "duplicate"]


def test_a_duplicate_of_a_replaced_task_waits_for_the_one_that_goes_on(app: Any) -> None:
    deliver(app, "pay", "a", "replace")
    deliver(app, "pay", "a", "replace")
    assert (states(app, "claims"), states(app, "results")) == (["succeeded"], ["retry_wait"])
    assert sent(app)[-1] == "pay['a', 'replace']"


def test_what_a_replay_is_replaced_by_is_no_late_copy_of_it(app: Any) -> None:
    ENDINGS.extend(["permanent", "replace"])
    task_id = str(new_id())
    deliver(app, "pay", "a", task_id=task_id)
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    known = Known(queue=lambda _queue: True, task=lambda _task: True)
    assert [done.outcome for done in replay(app.runtime.engine, [letter["id"]], Operator("ann"), known)]
    deliver(app, "pay", "a", task_id=task_id, headers={"rt-replay": 1})
    (instead,) = rows(app, "SELECT * FROM reliable_tasks.outbox WHERE body LIKE '%instead%'")
    assert instead["task_id"] == task_id
    deliver(app, "plain", task_id=task_id, body=bytes(instead["body"]), headers=instead["headers"])
    assert states(app, "results") == ["succeeded"]


def test_a_task_that_calls_itself_failed_leaves_no_effect_and_no_succeeded_key(app: Any) -> None:
    assert deliver(app, "pay", "a", "say-failed") == "ack"
    assert (states(app, "results"), states(app, "claims")) == (["failed"], ["failed"])
    assert rows(app, "SELECT * FROM effects") == []
    assert sent(app) == []


def test_a_late_copy_of_what_was_replayed_runs_nothing(app: Any) -> None:
    """While the replay waits for its next attempt: else that one's end would be told of nobody."""
    ENDINGS.extend(["permanent", "again"])
    task_id = str(new_id())
    assert deliver(app, "pay", "a", task_id=task_id) == "reject"
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    known = Known(queue=lambda _queue: True, task=lambda _task: True)
    (done,) = replay(app.runtime.engine, [letter["id"]], Operator("ann"), known)
    assert done.outcome == "replayed"
    assert deliver(app, "pay", "a", task_id=task_id, headers={"rt-replay": 1}) == "ack"
    for _ in range(2):
        assert (states(app, "results"), states(app, "dead_letters")) == (["retry_wait"], ["replaying"])
        assert rows(app, "SELECT * FROM effects") == []
        assert deliver(app, "pay", "a", task_id=task_id) == "ack"
    assert deliver(app, "pay", "a", task_id=task_id, headers={"rt-replay": 1, "retries": 1}) == "ack"
    assert (states(app, "results"), states(app, "dead_letters")) == (["succeeded"], ["resolved"])
    assert len(rows(app, "SELECT * FROM effects")) == 1


def test_celerys_revoke_does_not_cancel_what_may_have_happened(app: Any) -> None:
    task_id = str(new_id())
    deliver(app, "tell", "a", task_id=task_id, callbacks=None)
    with begin(app.runtime.engine) as connection:
        for table in ("results", "claims"):
            connection.execute(text(f"ALTER TABLE reliable_tasks.{table} DISABLE TRIGGER guarded"))
            connection.execute(text(f"UPDATE reliable_tasks.{table} SET state = 'retry_wait'"))
        connection.execute(text("UPDATE reliable_tasks.claims SET may_have_acted = 1"))
    app.backend.mark_as_revoked(task_id, reason="revoked")
    assert states(app, "results") == ["retry_wait"]
    with begin(app.runtime.engine) as connection:
        connection.execute(text("UPDATE reliable_tasks.claims SET may_have_acted = 0"))
    app.backend.mark_as_revoked(task_id, reason="revoked")
    assert states(app, "results") == ["cancelled"]


def test_a_call_in_this_process_leaves_no_message_to_be_sent_again(app: Any) -> None:
    kept: list[int] = []
    count = "SELECT count(*) AS kept FROM reliable_tasks.leased_messages"
    HOOKS.append(lambda _order: kept.append(rows(app, count)[0]["kept"]))
    assert app.tasks["tell"]("a") == "told"
    deliver(app, "tell", "b")
    assert (kept, rows(app, count)[0]["kept"]) == ([0, 1], 0)


def test_a_call_in_this_process_is_given_no_empty_result_either(app: Any) -> None:
    deliver(app, "tell", "a")
    assert app.tasks["tell"]("a") == "told"
    with begin(app.runtime.engine) as connection:
        connection.execute(text("DELETE FROM reliable_tasks.celery_taskmeta"))
    with pytest.raises(ResultDeleted):
        app.tasks["tell"]("a")
    assert CALLS == ["a"]
