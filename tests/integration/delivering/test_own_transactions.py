"""Tasks that treat their session, or one of their own, as any program would: nothing is lost by it, or done twice."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from psycopg2.extras import RealDictCursor
from sqlalchemy import text
from sqlalchemy.orm import Session

from reliable_tasks import PermanentError, TaskContext
from reliable_tasks.errors import ExecutionError, OperationRefused
from reliable_tasks.store.engine import begin
from reliable_tasks.store.identity import new_id
from reliable_tasks.worker import trace
from reliable_tasks.worker.unrecorded import REFUSALS
from tests.integration.delivering.one_delivery import ENDINGS, deliver, rows, sent, states

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body")

EFFECT = text("INSERT INTO effects VALUES ('a')")


@pytest.fixture
def act(app: Any) -> Callable[..., str]:
    """Deliver a task that does this; returns the settlement."""
    doing: list[Callable[[TaskContext], Any]] = []

    def run(ctx: TaskContext, case: str) -> Any:
        return doing[-1](ctx)

    for effects in ("database", "external"):
        task = app.idempotent_task(key="act:{case}", effects=effects, name=effects, shared=False)(run)
        task.__trace__ = build_tracer(effects, task, app.loader, "here", app=app)

    def deliver_once(what: Callable[[TaskContext], Any], effects: str = "database", **more: Any) -> str:
        doing.append(what)
        return deliver(app, effects, "a", **more)

    return deliver_once


def in_a_block(ctx: TaskContext) -> None:
    with ctx.session as session:
        session.execute(EFFECT)


def closing(ctx: TaskContext) -> None:
    ctx.session.execute(EFFECT)
    ctx.session.close()


def committing(ctx: TaskContext) -> None:
    ctx.session.execute(EFFECT)
    ctx.session.commit()


@pytest.mark.parametrize("how", [in_a_block, closing, committing])
def test_a_task_that_succeeds_has_its_effect_however_it_has_left_its_session(
    app: Any, act: Any, how: Any
) -> None:
    assert act(how) == "ack"
    assert states(app, "results") == ["succeeded"]
    assert len(rows(app, "SELECT * FROM effects")) == 1


def test_what_a_block_of_the_session_did_is_undone_by_its_own_exception(app: Any, act: Any) -> None:
    def what(ctx: TaskContext) -> str:
        try:
            with ctx.session as session:
                session.execute(EFFECT)
                raise LookupError
        except LookupError:
            return "not paid"

    assert act(what) == "ack"
    assert rows(app, "SELECT * FROM effects") == []


def connection_of(ctx: TaskContext) -> Any:
    return ctx.session.connection()


ENDS: dict[str, Callable[[TaskContext], Any]] = {
    "commit of the connection": lambda ctx: connection_of(ctx).commit(),
    "commit of the driver": lambda ctx: connection_of(ctx).connection.commit(),
    "COMMIT": lambda ctx: ctx.session.execute(text("COMMIT")),
    "rollback of the connection": lambda ctx: connection_of(ctx).rollback(),
    "rollback of the driver": lambda ctx: connection_of(ctx).connection.rollback(),
    "ROLLBACK": lambda ctx: ctx.session.execute(text("ROLLBACK")),
    "close of the connection": lambda ctx: connection_of(ctx).close(),
}


@pytest.mark.parametrize("end", list(ENDS))
def test_a_task_that_ends_its_claims_transaction_has_no_effect_and_is_a_dead_letter_that_says_so(
    app: Any, act: Any, end: str
) -> None:
    def what(ctx: TaskContext) -> None:
        ctx.session.execute(EFFECT)
        ENDS[end](ctx)

    task_id = "00000000-0000-7000-8000-000000000001"
    while act(what, task_id=task_id) == "requeue":
        assert rows(app, "SELECT * FROM effects") == []
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    assert (letter["reason"], letter["exception_type"]) == ("unrecordable", "TransactionEnded")
    assert rows(app, "SELECT * FROM effects") == []
    assert "succeeded" not in states(app, "claims")


def test_a_rollback_behind_the_sessions_back_does_not_ack_the_task_away(app: Any, act: Any) -> None:
    def what(ctx: TaskContext) -> None:
        driver = connection_of(ctx).connection
        ctx.session.execute(EFFECT)
        ctx.session.commit()
        driver.rollback()

    assert act(what) == "requeue"


def test_a_task_that_goes_on_after_a_failed_statement_fails_by_its_retry_policy(app: Any, act: Any) -> None:
    def what(ctx: TaskContext) -> str:
        ctx.session.execute(EFFECT)
        with pytest.raises(Exception, match="division"):
            ctx.session.execute(text("SELECT 1 / 0"))
        return "paid"

    assert act(what) == "ack"
    assert states(app, "results") == ["retry_wait"]
    (attempt,) = rows(app, "SELECT * FROM reliable_tasks.attempts")
    assert "aborted" in attempt["exception_message"]
    assert rows(app, "SELECT * FROM effects") == []


@pytest.mark.parametrize("effects", ["database", "external"])
def test_what_a_task_enqueues_in_a_session_of_its_own_is_sent_when_that_commits_though_the_task_fails(
    app: Any, act: Any, effects: str
) -> None:
    def what(ctx: TaskContext) -> None:
        with Session(app.runtime.engine) as own:
            own.execute(EFFECT)
            app.enqueue(own, app.tasks["plain"].s("kept"))
            own.commit()
        raise PermanentError("after all")

    assert act(what, effects) == "reject"
    assert sent(app) == ["plain['kept']"]


def test_what_a_task_enqueues_in_a_session_that_is_rolled_back_is_not_sent(app: Any, act: Any) -> None:
    def what(ctx: TaskContext) -> None:
        with Session(app.runtime.engine) as own:
            app.enqueue(own, app.tasks["plain"].s("dropped"))
            own.rollback()
        savepoint = ctx.session.begin_nested()
        app.enqueue(ctx.session, app.tasks["plain"].s("dropped, too"))
        savepoint.rollback()
        app.enqueue(ctx.session, app.tasks["plain"].s("kept"))

    assert act(what) == "ack"
    assert sent(app) == ["plain['kept']"]


def in_a_thread(call: Callable[[], Any]) -> list[Any]:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except ExecutionError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def test_what_a_thread_of_a_task_enqueues_is_not_sent_when_the_task_fails(app: Any, act: Any) -> None:
    def what(ctx: TaskContext) -> None:
        in_a_thread(lambda: ctx.enqueue(app.tasks["plain"].s("dropped")))
        raise PermanentError("after all")

    assert act(what) == "reject"
    assert sent(app) == []


def test_a_thread_that_outlives_its_task_is_told_that_it_cannot_enqueue_any_more(app: Any, act: Any) -> None:
    left: list[TaskContext] = []

    def what(ctx: TaskContext) -> None:
        in_a_thread(lambda: ctx.enqueue(app.tasks["plain"].s("in time")))
        left.append(ctx)

    assert act(what) == "ack"
    (error,) = in_a_thread(lambda: left[0].enqueue(app.tasks["plain"].s("too late")))
    assert isinstance(error, ExecutionError)
    assert sent(app) == ["plain['in time']"]


def test_a_task_that_makes_another_celery_application_is_not_the_last_one_of_its_process(
    app: Any, act: Any
) -> None:
    assert act(lambda _ctx: Celery("elsewhere", broker="amqp://nobody@127.0.0.1:9//").main) == "ack"
    assert deliver(app, "pay", "a") == "ack"
    assert states(app, "results") == ["succeeded", "succeeded"]


def test_what_a_task_sets_in_its_session_does_not_reach_the_next_one(app: Any, act: Any) -> None:
    """It would write another tenant's rows, or fail by a time limit that is not its own."""

    def what(ctx: TaskContext) -> None:
        for setting in ("search_path TO elsewhere", "statement_timeout TO '1ms'"):
            ctx.session.execute(text(f"SET {setting}"))

    assert act(what) == "ack"
    assert deliver(app, "pay", "a") == "ack"
    assert states(app, "results") == ["succeeded", "succeeded"]


def _as_it_commits(driver: Any) -> None:
    driver.rollback()
    driver.autocommit = True


def _as_it_reads(driver: Any) -> None:
    driver.rollback()
    driver.set_session(readonly=True)


def _as_it_counts(driver: Any) -> None:
    driver.rollback()
    driver.set_session(isolation_level="SERIALIZABLE")


def _as_it_answers(driver: Any) -> None:
    driver.cursor_factory = RealDictCursor


@pytest.mark.parametrize("change", [_as_it_commits, _as_it_reads, _as_it_counts, _as_it_answers])
def test_what_a_task_changes_at_the_drivers_connection_makes_no_dead_letters_of_those_that_follow(
    app: Any, act: Any, change: Callable[[Any], None]
) -> None:
    act(lambda ctx: change(connection_of(ctx).connection.driver_connection))
    for number in range(3):
        assert deliver(app, "pay", f"after-{number}") == "ack"
    assert states(app, "attempts")[-3:] == ["succeeded"] * 3


def test_a_task_that_succeeds_at_last_is_not_shown_with_the_error_of_the_attempt_before(app: Any) -> None:
    ENDINGS.extend(["again", ""])
    task_id = str(new_id())
    assert deliver(app, "pay", "a", task_id=task_id) == "ack"
    assert states(app, "results") == ["retry_wait"]
    assert deliver(app, "pay", "a", task_id=task_id) == "ack"
    (row,) = rows(app, "SELECT * FROM reliable_tasks.results")
    assert row["state"] == "succeeded"
    assert (row["exception_type"], row["exception_message"], row["traceback"]) == (None, None, None)


def test_a_worker_that_is_told_to_purge_throws_no_accepted_message_away(app: Any) -> None:
    for purge in (app.control.purge, app.control.discard_all):
        with pytest.raises(OperationRefused, match="would lose"):
            purge()


CONFLICT = """
CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'always' USING ERRCODE = 'serialization_failure'; END $$;
CREATE CONSTRAINT TRIGGER conflict AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.name = 'a') EXECUTE FUNCTION conflict()
"""


def test_a_task_whose_commit_always_conflicts_is_dead_in_the_end_and_holds_up_nobody(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "CONTENTIONS", 2)
    with begin(app.runtime.engine) as connection:
        connection.execute(text(CONFLICT))
    task_id = str(new_id())
    told = [deliver(app, "pay", "a", task_id=task_id) for _ in range(REFUSALS)]
    assert told == ["requeue"] * (REFUSALS - 1) + ["reject"]
    assert [row["reason"] for row in rows(app, "SELECT reason FROM reliable_tasks.dead_letters")] == [
        "unrecordable"
    ]
    assert deliver(app, "pay", "b") == "ack"
    assert [row["name"] for row in rows(app, "SELECT name FROM effects")] == ["b"]
