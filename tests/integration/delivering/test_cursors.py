"""Tasks that work with the driver's own cursor: in their transaction as the session is, and only while they run."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from sqlalchemy import text

from reliable_tasks import PermanentError, TaskContext
from reliable_tasks.errors import TaskDeclarationError
from tests.integration.delivering.leaving import EFFECT, Act, effects, leaves_its_effect
from tests.integration.delivering.one_delivery import deliver, deliver_all, rows, sent, states
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body")

LOCK = "SELECT name FROM effects WHERE name LIKE 'locked%' FOR UPDATE"


def test_what_is_done_by_cursor_and_by_session_is_kept_with_the_result_or_not_at_all(
    app: Any, acts: dict[str, Act]
) -> None:
    def both(ctx: TaskContext, case: str) -> None:
        leaves_its_effect(ctx, f"{case} by cursor")
        ctx.session.execute(text("INSERT INTO effects VALUES (:case)"), {"case": f"{case} by session"})
        leaves_its_effect(ctx, f"{case} by cursor, again")
        if case == "bad":
            raise PermanentError("no funds")

    acts.update({"good": both, "bad": both})
    assert [deliver(app, "alone", case) for case in ("good", "bad")] == ["ack", "reject"]
    assert effects(app) == ["good by cursor", "good by cursor, again", "good by session"]
    assert states(app, "results") == ["dead", "succeeded"]


def test_a_rollback_of_the_session_undoes_what_was_done_since_it_was_first_used(
    app: Any, acts: dict[str, Act]
) -> None:
    def back(ctx: TaskContext, case: str) -> None:
        leaves_its_effect(ctx, "before")
        ctx.session.execute(text("INSERT INTO effects VALUES ('undone')"))
        leaves_its_effect(ctx, "undone, too")
        ctx.session.rollback()
        leaves_its_effect(ctx, "after")

    acts["a"] = back
    assert deliver(app, "alone", "a") == "ack"
    assert effects(app) == ["after", "before"]


ENDS: dict[str, Callable[[Any], Any]] = {
    "commit of the connection": lambda cursor: cursor.connection.commit(),
    "COMMIT": lambda cursor: cursor.execute("COMMIT"),
    "rollback of the connection": lambda cursor: cursor.connection.rollback(),
    "ROLLBACK": lambda cursor: cursor.execute("ROLLBACK"),
    "COMMIT AND CHAIN": lambda cursor: cursor.execute("COMMIT AND CHAIN"),
    "ROLLBACK AND CHAIN": lambda cursor: cursor.execute("ROLLBACK AND CHAIN"),
}


@pytest.mark.parametrize("end", list(ENDS))
def test_a_task_that_ends_its_claims_transaction_has_no_effect_and_is_a_dead_letter_that_says_so(
    app: Any, acts: dict[str, Act], end: str
) -> None:
    def ends(ctx: TaskContext, case: str) -> None:
        leaves_its_effect(ctx, case)
        ENDS[end](ctx.cursor())

    acts["a"] = ends
    task_id = "00000000-0000-7000-8000-000000000001"
    while deliver(app, "alone", "a", task_id=task_id) == "requeue":
        assert effects(app) == []
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    assert (letter["reason"], letter["exception_type"]) == ("unrecordable", "TransactionEnded")
    assert effects(app) == []
    assert "succeeded" not in states(app, "claims")


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("end", list(ENDS))
def test_one_that_ends_the_transaction_of_all_takes_none_of_the_others_with_it(
    app: Any, acts: dict[str, Act], end: str
) -> None:
    acts["b"] = lambda ctx, case: ENDS[end](ctx.cursor()) and None
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "requeue", "ack"]
    assert effects(app) == ["a", "c"]
    assert states(app, "attempts") == ["succeeded", "succeeded"]


def test_a_task_that_goes_on_after_a_failed_statement_fails_by_its_retry_policy(
    app: Any, acts: dict[str, Act]
) -> None:
    def goes_on(ctx: TaskContext, case: str) -> str:
        leaves_its_effect(ctx, case)
        with pytest.raises(psycopg2.errors.DivisionByZero):
            ctx.cursor().execute("SELECT 1 / 0")
        return "paid"

    acts["a"] = goes_on
    assert deliver(app, "alone", "a") == "ack"
    assert states(app, "results") == ["retry_wait"]
    (attempt,) = rows(app, "SELECT * FROM reliable_tasks.attempts")
    assert "aborted" in attempt["exception_message"]
    assert effects(app) == []


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("name", ["alone", "batch"])
def test_a_cursor_that_one_has_left_behind_does_not_reach_into_the_next(
    app: Any, acts: dict[str, Act], name: str
) -> None:
    left: list[Any] = []

    def leaves(ctx: TaskContext, case: str) -> str:
        left.extend([ctx.cursor(), ctx.cursor()])
        left[0].execute(EFFECT, (case,))
        return case

    def uses(ctx: TaskContext, case: str) -> str:
        for call in (
            lambda: left[0].execute(EFFECT, ("from before",)),
            lambda: left[1].executemany(EFFECT, [("from before",)]),
            lambda: left[1].copy_from(io.StringIO("from before\n"), "effects"),
            lambda: left[1].connection.cursor(),
        ):
            with pytest.raises(Exception, match="is over"):
                call()
        left[0].connection.rollback()
        left[0].connection.commit()
        return leaves_its_effect(ctx, case)

    acts.update({"a": leaves, "b": uses})
    assert deliver_all(name, ("a",), ("b",)) == ["ack", "ack"]
    assert effects(app) == ["a", "b"]


@pytest.mark.parametrize("app", ["usual"], indirect=True)
def test_who_gives_up_waiting_for_a_lock_is_done_again_without_our_timeout(
    app: Any, acts: dict[str, Act]
) -> None:
    def locks(ctx: TaskContext, case: str) -> str:
        cursor = ctx.cursor()
        cursor.execute("SAVEPOINT mine")
        try:
            cursor.execute(LOCK)
        except psycopg2.errors.LockNotAvailable:
            cursor.execute("ROLLBACK TO SAVEPOINT mine")
            return "it was locked"
        return "it was free"

    acts["b"] = locks
    assert deliver(app, "alone", "locked") == "ack"
    with app.runtime.engine.connect() as holder, ThreadPoolExecutor(1) as threads:
        holder.execute(text(LOCK))
        answers = threads.submit(deliver_all, "batch", ("a",), ("b",), ("c",))
        wait_until(lambda: effects(app) == ["a", "c", "locked"], "the others have committed", 30)
        holder.rollback()
        assert answers.result(30) == ["ack"] * 3
    (stored,) = rows(app, "SELECT result FROM reliable_tasks.results WHERE idempotency_key = 'batch:b'")
    assert bytes(stored["result"]) == b'"it was free"'


def test_a_task_that_touches_nothing_is_recorded_as_any_other(app: Any, acts: dict[str, Act]) -> None:
    def sends(ctx: TaskContext, case: str) -> str:
        ctx.enqueue(app.tasks["plain"].s(case))
        return case

    acts.update({"a": sends, "b": sends})
    assert [deliver(app, name, case) for name in ("alone", "batch") for case in ("a", "b", "a")] == [
        "ack"
    ] * 6
    assert states(app, "results") == ["duplicate"] * 2 + ["succeeded"] * 4
    assert states(app, "claims") == ["succeeded"] * 4
    assert sent(app) == ["plain['a']", "plain['b']"] * 2


def test_a_task_whose_effect_is_outside_has_no_cursor(app: Any, acts: dict[str, Act]) -> None:
    def wants(ctx: TaskContext, case: str) -> None:
        with pytest.raises(TaskDeclarationError, match=r"ctx\.cursor\(\)"):
            ctx.cursor()

    acts["a"] = wants
    assert deliver(app, "call", "a") == "ack"
