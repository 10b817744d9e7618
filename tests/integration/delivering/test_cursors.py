"""Tasks that work with the driver's own cursor: in their transaction as the session is, and only while they run."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from celery.app.trace import build_tracer
from psycopg2 import sql
from psycopg2.extras import RealDictCursor, execute_values
from sqlalchemy import text

from reliable_tasks import PermanentError, TaskContext
from reliable_tasks.errors import TaskDeclarationError
from reliable_tasks.worker import ahead
from tests.integration.delivering.one_delivery import deliver, deliver_all, rows, sent, states
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body")

EFFECTS = "SELECT name FROM effects ORDER BY name"
EFFECT = "INSERT INTO effects VALUES (%s)"
LOCK = "SELECT name FROM effects WHERE name LIKE 'locked%' FOR UPDATE"
Act = Callable[[TaskContext, str], Any]


@pytest.fixture
def doing(app: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Act]:
    """What the tasks `alone` and `batch` do, by their case."""
    monkeypatch.setattr(ahead, "BUDGET_SECONDS", 60.0)
    acts: dict[str, Act] = {}

    def run(ctx: TaskContext, case: str) -> Any:
        return acts.get(case, leaves_its_effect)(ctx, case)

    for name, effects, batch in (
        ("alone", "database", 1),
        ("batch", "database", 10),
        ("call", "external", 1),
    ):
        task = app.idempotent_task(
            key=f"{name}:{{case}}", effects=effects, name=name, batch=batch, shared=False
        )(run)
        task.__trace__ = build_tracer(name, task, app.loader, "here", app=app)
    return acts


def leaves_its_effect(ctx: TaskContext, case: str) -> str:
    with ctx.cursor() as cursor:
        cursor.execute(EFFECT, (case,))
    return case


def effects(app: Any) -> list[str]:
    return [row["name"] for row in rows(app, EFFECTS)]


def test_what_is_done_by_cursor_and_by_session_is_kept_with_the_result_or_not_at_all(
    app: Any, doing: dict[str, Act]
) -> None:
    def both(ctx: TaskContext, case: str) -> None:
        leaves_its_effect(ctx, f"{case} by cursor")
        ctx.session.execute(text("INSERT INTO effects VALUES (:case)"), {"case": f"{case} by session"})
        leaves_its_effect(ctx, f"{case} by cursor, again")
        if case == "bad":
            raise PermanentError("no funds")

    doing.update({"good": both, "bad": both})
    assert [deliver(app, "alone", case) for case in ("good", "bad")] == ["ack", "reject"]
    assert effects(app) == ["good by cursor", "good by cursor, again", "good by session"]
    assert states(app, "results") == ["dead", "succeeded"]


def test_a_rollback_of_the_session_undoes_what_was_done_since_it_was_first_used(
    app: Any, doing: dict[str, Act]
) -> None:
    def back(ctx: TaskContext, case: str) -> None:
        leaves_its_effect(ctx, "before")
        ctx.session.execute(text("INSERT INTO effects VALUES ('undone')"))
        leaves_its_effect(ctx, "undone, too")
        ctx.session.rollback()
        leaves_its_effect(ctx, "after")

    doing["a"] = back
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
    app: Any, doing: dict[str, Act], end: str
) -> None:
    def ends(ctx: TaskContext, case: str) -> None:
        leaves_its_effect(ctx, case)
        ENDS[end](ctx.cursor())

    doing["a"] = ends
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
    app: Any, doing: dict[str, Act], end: str
) -> None:
    doing["b"] = lambda ctx, case: ENDS[end](ctx.cursor()) and None
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "requeue", "ack"]
    assert effects(app) == ["a", "c"]
    assert states(app, "attempts") == ["succeeded", "succeeded"]


def test_a_task_that_goes_on_after_a_failed_statement_fails_by_its_retry_policy(
    app: Any, doing: dict[str, Act]
) -> None:
    def goes_on(ctx: TaskContext, case: str) -> str:
        leaves_its_effect(ctx, case)
        with pytest.raises(psycopg2.errors.DivisionByZero):
            ctx.cursor().execute("SELECT 1 / 0")
        return "paid"

    doing["a"] = goes_on
    assert deliver(app, "alone", "a") == "ack"
    assert states(app, "results") == ["retry_wait"]
    (attempt,) = rows(app, "SELECT * FROM reliable_tasks.attempts")
    assert "aborted" in attempt["exception_message"]
    assert effects(app) == []


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("name", ["alone", "batch"])
def test_a_cursor_that_one_has_left_behind_does_not_reach_into_the_next(
    app: Any, doing: dict[str, Act], name: str
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

    doing.update({"a": leaves, "b": uses})
    assert deliver_all(name, ("a",), ("b",)) == ["ack", "ack"]
    assert effects(app) == ["a", "b"]


def by_many(cursor: Any, case: str) -> None:
    cursor.executemany(EFFECT, [(case,)])


def by_copy(cursor: Any, case: str) -> None:
    cursor.copy_expert("COPY effects FROM STDIN", io.StringIO(f"{case}\n"))


def by_values(cursor: Any, case: str) -> None:
    execute_values(cursor, "INSERT INTO effects VALUES %s", [(case,)])


def by_procedure(cursor: Any, case: str) -> None:
    cursor.callproc("leave", (case,))


def by_composition(cursor: Any, case: str) -> None:
    cursor.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier("effects"), sql.Literal(case)))


def by_bytes(cursor: Any, case: str) -> None:
    cursor.execute(EFFECT.encode(), (case,))


def after_what_cannot_be_sent(cursor: Any, case: str) -> None:
    for values in ((), (object(),)):
        with pytest.raises((IndexError, psycopg2.ProgrammingError)):
            cursor.execute(EFFECT, values)
    cursor.execute(EFFECT, (case,))


WAYS = (by_many, by_copy, by_values, by_procedure, by_composition, by_bytes, after_what_cannot_be_sent)


def by_the_driver(ctx: TaskContext, case: str) -> None:
    ctx.session.connection().connection.driver_connection.cursor().execute(EFFECT, (case,))


def by_another_kind(ctx: TaskContext, case: str) -> None:
    ctx.session.connection().connection.cursor(cursor_factory=RealDictCursor).execute(EFFECT, (case,))


def by_a_named_one(ctx: TaskContext, case: str) -> None:
    cursor = ctx.session.connection().connection.cursor("mine", withhold=True)
    cursor.execute("SELECT 1")
    cursor.close()
    leaves_its_effect(ctx, case)


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("way", [by_the_driver, by_another_kind, by_a_named_one])
def test_what_is_done_behind_the_sessions_back_is_undone_for_its_own_task_alone(
    app: Any, doing: dict[str, Act], way: Any
) -> None:
    def acts(ctx: TaskContext, case: str) -> None:
        way(ctx, case)
        if case == "b":
            raise PermanentError("no funds")

    doing.update({"a": acts, "b": acts, "c": acts})
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "reject", "ack"]
    assert effects(app) == ["a", "c"]


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_the_driver_to_begin_with_is_undone_for_its_own_task_alone(
    app: Any, doing: dict[str, Act], way: Any
) -> None:
    def acts(ctx: TaskContext, case: str) -> None:
        way(ctx.cursor(), case)
        if case == "b":
            raise PermanentError("no funds")

    rows_of_function = (
        "CREATE FUNCTION leave(name text) RETURNS void LANGUAGE sql AS 'INSERT INTO effects VALUES (name)'"
    )
    with app.runtime.engine.begin() as connection:
        connection.execute(text(rows_of_function))
    doing.update({"a": acts, "b": acts, "c": acts})
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "reject", "ack"]
    assert effects(app) == ["a", "c"]


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("by", ["cursor", "session"])
def test_a_first_statement_that_is_no_sql_takes_none_of_the_others_with_it(
    app: Any, doing: dict[str, Act], by: str
) -> None:
    def misspells(ctx: TaskContext, case: str) -> None:
        if by == "cursor":
            ctx.cursor().execute("INSRET")
        ctx.session.execute(text("INSRET"))

    doing["b"] = misspells
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "ack", "ack"]
    assert effects(app) == ["a", "c"]
    assert states(app, "results") == ["retry_wait", "succeeded", "succeeded"]


@pytest.mark.parametrize("name", ["alone", "batch"])
def test_a_session_goes_on_after_a_first_statement_that_is_no_sql(
    app: Any, doing: dict[str, Act], name: str
) -> None:
    def misspells(ctx: TaskContext, case: str) -> None:
        with pytest.raises(Exception, match="INSRET"):
            ctx.session.execute(text("INSRET"))
        ctx.session.rollback()
        leaves_its_effect(ctx, case)

    doing["a"] = misspells
    assert deliver(app, name, "a") == "ack"
    assert effects(app) == ["a"]
    assert states(app, "results") == ["succeeded"]


@pytest.mark.parametrize("app", ["usual"], indirect=True)
def test_who_gives_up_waiting_for_a_lock_is_done_again_without_our_timeout(
    app: Any, doing: dict[str, Act]
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

    doing["b"] = locks
    assert deliver(app, "alone", "locked") == "ack"
    with app.runtime.engine.connect() as holder, ThreadPoolExecutor(1) as threads:
        holder.execute(text(LOCK))
        answers = threads.submit(deliver_all, "batch", ("a",), ("b",), ("c",))
        wait_until(lambda: effects(app) == ["a", "c", "locked"], "the others have committed", 30)
        holder.rollback()
        assert answers.result(30) == ["ack"] * 3
    (stored,) = rows(app, "SELECT result FROM reliable_tasks.results WHERE idempotency_key = 'batch:b'")
    assert bytes(stored["result"]) == b'"it was free"'


def test_a_task_that_touches_nothing_is_recorded_as_any_other(app: Any, doing: dict[str, Act]) -> None:
    def sends(ctx: TaskContext, case: str) -> str:
        ctx.enqueue(app.tasks["plain"].s(case))
        return case

    doing.update({"a": sends, "b": sends})
    assert [deliver(app, name, case) for name in ("alone", "batch") for case in ("a", "b", "a")] == [
        "ack"
    ] * 6
    assert states(app, "results") == ["duplicate"] * 2 + ["succeeded"] * 4
    assert states(app, "claims") == ["succeeded"] * 4
    assert sent(app) == ["plain['a']", "plain['b']"] * 2


def test_a_task_whose_effect_is_outside_has_no_cursor(app: Any, doing: dict[str, Act]) -> None:
    def wants(ctx: TaskContext, case: str) -> None:
        with pytest.raises(TaskDeclarationError, match=r"ctx\.cursor\(\)"):
            ctx.cursor()

    doing["a"] = wants
    assert deliver(app, "call", "a") == "ack"
