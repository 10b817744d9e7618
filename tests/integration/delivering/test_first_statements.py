"""Tasks of a batch, whose savepoints go ahead of their first statements, whatever these are."""

import io
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extras import RealDictCursor, execute_values
from sqlalchemy import text

from reliable_tasks import PermanentError, TaskContext
from tests.integration.delivering.leaving import EFFECT, Act, effects, leaves_its_effect
from tests.integration.delivering.one_delivery import deliver, deliver_all, states

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body")


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
    app: Any, acts: dict[str, Act], way: Any
) -> None:
    def act(ctx: TaskContext, case: str) -> None:
        way(ctx, case)
        if case == "b":
            raise PermanentError("no funds")

    acts.update({"a": act, "b": act, "c": act})
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "reject", "ack"]
    assert effects(app) == ["a", "c"]


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_the_driver_to_begin_with_is_undone_for_its_own_task_alone(
    app: Any, acts: dict[str, Act], way: Any
) -> None:
    def act(ctx: TaskContext, case: str) -> None:
        way(ctx.cursor(), case)
        if case == "b":
            raise PermanentError("no funds")

    rows_of_function = (
        "CREATE FUNCTION leave(name text) RETURNS void LANGUAGE sql AS 'INSERT INTO effects VALUES (name)'"
    )
    with app.runtime.engine.begin() as connection:
        connection.execute(text(rows_of_function))
    acts.update({"a": act, "b": act, "c": act})
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "reject", "ack"]
    assert effects(app) == ["a", "c"]


@pytest.mark.parametrize("app", ["usual"], indirect=True)
@pytest.mark.parametrize("by", ["cursor", "session"])
def test_a_first_statement_that_is_no_sql_takes_none_of_the_others_with_it(
    app: Any, acts: dict[str, Act], by: str
) -> None:
    def misspells(ctx: TaskContext, case: str) -> None:
        if by == "cursor":
            ctx.cursor().execute("INSRET")
        ctx.session.execute(text("INSRET"))

    acts["b"] = misspells
    assert deliver_all("batch", ("a",), ("b",), ("c",)) == ["ack", "ack", "ack"]
    assert effects(app) == ["a", "c"]
    assert states(app, "results") == ["retry_wait", "succeeded", "succeeded"]


@pytest.mark.parametrize("name", ["alone", "batch"])
def test_a_session_goes_on_after_a_first_statement_that_is_no_sql(
    app: Any, acts: dict[str, Act], name: str
) -> None:
    def misspells(ctx: TaskContext, case: str) -> None:
        with pytest.raises(Exception, match="INSRET"):
            ctx.session.execute(text("INSRET"))
        ctx.session.rollback()
        leaves_its_effect(ctx, case)

    acts["a"] = misspells
    assert deliver(app, name, "a") == "ack"
    assert effects(app) == ["a"]
    assert states(app, "results") == ["succeeded"]
