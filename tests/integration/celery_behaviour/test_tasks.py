"""What Celery's tasks may do: times, retries, states, names, priorities, limits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.exceptions import TimeLimitExceeded
from sqlalchemy import text

from reliable_tasks.dev import Stack
from reliable_tasks.errors import ArgumentError, TaskDeclarationError, UnknownQueue
from reliable_tasks.model.capabilities import Capabilities
from tests.waiting import wait_until

SECONDS = 20


def test_countdown_waits_in_the_outbox(tasks: Any, database: Any) -> None:
    before = datetime.now(UTC)
    sent = tasks.add.apply_async((1, 1), countdown=1)
    assert sent.get(timeout=SECONDS) == 2
    assert database.result(sent.id)["started_at"] >= before + timedelta(seconds=0.9)


def test_eta_is_not_before(tasks: Any, database: Any) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=1)
    sent = tasks.add.apply_async((1, 1), eta=eta)
    assert sent.get(timeout=SECONDS) == 2
    assert database.result(sent.id)["started_at"] >= eta - timedelta(seconds=0.1)


def test_bind_gives_the_request(tasks: Any) -> None:
    sent = tasks.who.delay()
    found = sent.get(timeout=SECONDS)
    assert found["id"] == sent.id
    assert found["name"].endswith(".who")


def test_autoretry_for_tries_again(tasks: Any, marks: Any, database: Any, unique: str) -> None:
    sent = tasks.unsteady.delay(unique, 2)
    assert sent.get(timeout=SECONDS) == 2
    assert marks.count(unique) == 3
    assert [row["next_step"] for row in database.attempts(sent.id)] == [
        "retry_wait",
        "retry_wait",
        "succeeded",
    ]


def test_self_retry_ends_with_its_error(tasks: Any, marks: Any, database: Any, unique: str) -> None:
    sent = tasks.tries.delay(unique)
    with pytest.raises(LookupError, match="never"):
        sent.get(timeout=SECONDS)
    assert marks.count(unique) == 3
    assert database.state(sent.id) == "dead"


def test_an_own_state_is_seen(tasks: Any, marks: Any, unique: str) -> None:
    sent = tasks.progress.delay(unique)
    wait_until(lambda: (sent.state, sent.info) == ("PROGRESS", {"done": 3}), "the state PROGRESS")
    marks.leave(f"{unique}-go")
    assert sent.get(timeout=SECONDS) == "all"


def test_an_ignored_result_is_not_kept(tasks: Any, marks: Any, database: Any, unique: str) -> None:
    sent = tasks.quiet.delay(unique)
    wait_until(lambda: database.state(sent.id) == "succeeded", "the task")
    assert database.result(sent.id)["result"] is None
    assert marks.count(unique) == 1


def test_a_shared_task_runs(tasks: Any) -> None:
    assert tasks.app.tasks["behaviour.shared"].delay(4).get(timeout=SECONDS) == 8


def test_send_task_by_name(tasks: Any, unique: str) -> None:
    assert tasks.app.send_task("behaviour.tick", (unique,)).get(timeout=SECONDS) == 1


def test_a_priority_set_on_a_signature(tasks: Any) -> None:
    sent = tasks.who.s().set(priority=2, queue="payments").delay()
    assert sent.get(timeout=SECONDS)["priority"] == 2


def test_a_priority_that_the_queue_does_not_have(tasks: Any) -> None:
    with pytest.raises(ArgumentError, match="no priority 9"):
        tasks.who.apply_async(queue="payments", priority=9)


@pytest.mark.parametrize("task", ["where", "where_once"])
def test_a_retry_keeps_queue_and_priority(
    tasks: Any, reliable_stack: Stack, database: Any, unique: str, task: str
) -> None:
    levels_apart = not Capabilities.for_version(reliable_stack.rabbitmq_version).strict_priorities
    sent = getattr(tasks, task).apply_async((unique,), queue="payments", priority=2)
    assert sent.get(timeout=SECONDS) == [2, 2, "payments.p2" if levels_apart else "payments"]
    assert (database.result(sent.id)["queue"], database.result(sent.id)["priority"]) == ("payments", 2)


def test_a_queue_that_is_not_declared(tasks: Any) -> None:
    with pytest.raises(UnknownQueue, match="nowhere"):
        tasks.who.apply_async(queue="nowhere")


def test_options_that_would_lose_messages(tasks: Any) -> None:
    with pytest.raises(TaskDeclarationError, match="acks_late"):
        tasks.app.idempotent_task(key="{x}", acks_late=False)(lambda ctx, x: x)


def test_a_task_id_of_any_form(tasks: Any, unique: str) -> None:
    assert tasks.add.apply_async((1, 2), task_id=f"order {unique}").get(timeout=SECONDS) == 3


def test_a_soft_time_limit_is_an_exception_in_the_task(tasks: Any, unique: str) -> None:
    assert tasks.soft.delay(unique).get(timeout=SECONDS) == "stopped softly"


def test_a_hard_time_limit_ends_the_task(tasks: Any, database: Any, unique: str) -> None:
    sent = tasks.hard.apply_async((unique,), link_error=tasks.heard.s(f"{unique}-heard"))
    with pytest.raises(TimeLimitExceeded):
        sent.get(timeout=SECONDS)
    assert database.state(sent.id) == "dead"
    assert database.dead_letter(sent.id)["reason"] == "time_limit"


def test_a_hard_time_limit_rolls_a_database_effect_back(tasks: Any, database: Any, unique: str) -> None:
    sent = tasks.pay_too_slowly.delay(unique)
    with pytest.raises(TimeLimitExceeded):
        sent.get(timeout=SECONDS)
    assert database.effects(unique) == 0
    assert [row["state"] for row in database.attempts(sent.id)] == ["timed_out"]


def test_a_worker_answers_while_the_database_does_not_take_a_time_limit(
    tasks: Any, database: Any, unique: str
) -> None:
    with database.engine.connect() as connection:
        connection.execute(text("LOCK TABLE reliable_tasks.attempts IN EXCLUSIVE MODE"))
        sent = tasks.pay_too_slowly.delay(unique)
        waiting = """SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ 'attempts'"""
        database.wait_for(waiting, 1)
        assert tasks.app.control.ping(timeout=5)
        connection.rollback()
    database.until(sent.id, "dead")


def test_a_hard_time_limit_tells_the_errback(tasks: Any, marks: Any, unique: str) -> None:
    tasks.hard.apply_async((unique,), link_error=tasks.heard.s(f"{unique}-heard"))
    wait_until(lambda: marks.count(f"{unique}-heard") == 1, "the errback")


def test_replace_goes_on_as_another_task(tasks: Any) -> None:
    assert tasks.replaced.delay(3, 4).get(timeout=SECONDS) == 7


def test_a_rejected_task_is_a_dead_letter(tasks: Any, database: Any) -> None:
    sent = tasks.reject.delay("no")
    wait_until(lambda: database.state(sent.id) == "dead", "it is dead")
    assert database.dead_letter(sent.id)["reason"] == "rejected"


def test_a_rate_limit_lets_all_through(tasks: Any) -> None:
    sent = [tasks.limited.delay(number) for number in range(4)]
    assert [one.get(timeout=SECONDS) for one in sent] == [0, 1, 2, 3]


def test_a_task_that_kills_its_process_is_poison_at_last(
    tasks: Any, database: Any, marks: Any, unique: str
) -> None:
    sent = tasks.die.delay(unique)
    wait_until(lambda: database.state(sent.id) == "dead", "it is dead", 60)
    assert database.result(sent.id)["reason"] == "poison"
    assert marks.count(unique) == 6


def test_what_cannot_be_recorded_is_dead_at_last(tasks: Any, database: Any, unique: str) -> None:
    database.rows(
        f"""CREATE FUNCTION {unique}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.task_id = '{unique}' THEN RAISE EXCEPTION 'not with me'; END IF; RETURN NEW; END $$"""
    )
    database.rows(
        f"CREATE TRIGGER {unique} BEFORE INSERT ON reliable_tasks.attempts FOR EACH ROW EXECUTE FUNCTION {unique}()"
    )
    tasks.pay.apply_async((unique,), task_id=unique)
    wait_until(lambda: database.state(unique) == "dead", "it is dead")
    assert database.result(unique)["reason"] == "unrecordable"
    assert "not with me" in database.dead_letter(unique)["exception_message"]
    assert database.effects(unique) == 0


@pytest.mark.parametrize(
    ("effects", "state"), [("database", "40P01"), ("database", "40001"), ("external", "55P03")]
)
def test_a_deadlock_that_comes_again_and_again_condemns_no_task(
    tasks: Any, database: Any, unique: str, effects: str, state: str
) -> None:
    database.rows(
        f"""CREATE SEQUENCE {unique}_refused;
        CREATE FUNCTION {unique}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.task_id = '{unique}' AND nextval('{unique}_refused') <= 4
        THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER {unique} BEFORE INSERT ON reliable_tasks.attempts FOR EACH ROW EXECUTE FUNCTION {unique}()"""
    )
    task, arguments = (tasks.pay, (unique,)) if effects == "database" else (tasks.tell, (unique, "none"))
    task.apply_async(arguments, task_id=unique)
    database.until(unique, "succeeded", 60)
    assert database.one(f"SELECT last_value FROM {unique}_refused") == 5
    assert [row["attempt"] for row in database.attempts(unique)] == [1]
