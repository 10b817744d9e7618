"""The migrated database is what the tables declare, and tables of stock Celery are left alone."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from reliable_tasks.store import migrations
from reliable_tasks.store.engine import begin, create_engine


def test_a_migrated_database_equals_the_declared_tables(fresh_database: str) -> None:
    assert migrations.check(fresh_database) == []


def test_a_difference_is_found(fresh_database: str) -> None:
    engine = create_engine(fresh_database)
    with begin(engine) as connection:
        connection.execute(text("ALTER TABLE reliable_tasks.outbox DROP COLUMN last_error"))
    engine.dispose()
    assert any("last_error" in line for line in migrations.check(fresh_database))


def test_a_database_without_the_schema_is_behind(empty_database: str) -> None:
    assert migrations.check(empty_database) == [f"revision is none, newest is {migrations.newest()}"]


def test_an_upgrade_repeated_changes_nothing(fresh_database: str) -> None:
    migrations.upgrade(fresh_database)
    assert migrations.current(fresh_database) == migrations.newest()


def test_tables_of_stock_celery_stay_as_they_are(empty_database: str) -> None:
    engine = create_engine(empty_database)
    with begin(engine) as connection:
        connection.execute(text("CREATE TABLE celery_taskmeta (task_id text, status text)"))
        connection.execute(text("INSERT INTO celery_taskmeta VALUES ('stock', 'SUCCESS')"))
    migrations.upgrade(empty_database)
    with begin(engine) as connection:
        stock = connection.execute(text("SELECT task_id FROM public.celery_taskmeta")).scalars().all()
        ours = connection.execute(text("SELECT count(*) FROM reliable_tasks.celery_taskmeta")).scalar_one()
    engine.dispose()
    assert (stock, ours) == (["stock"], 0)


def test_an_unknown_state_is_refused_by_the_database(fresh_database: str) -> None:
    engine = create_engine(fresh_database)
    with pytest.raises(IntegrityError, match="ck_dead_letters_state"), begin(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO reliable_tasks.dead_letters (task_id, replay, state, reason, body, headers, properties)"
                " VALUES ('t', 0, 'lost', 'r', '', '{}', '{}')"
            )
        )
    engine.dispose()


def test_what_is_there_survives_the_upgrade_to_guarded_states(empty_database: str) -> None:
    migrations.upgrade(empty_database, "0003")
    engine = create_engine(empty_database)
    with begin(engine) as connection:
        for state in ("succeeded", "dead", "running"):
            connection.execute(
                text(
                    "INSERT INTO reliable_tasks.results (id, task_id, state, started_at) "
                    "VALUES (gen_random_uuid(), :state, :state, '2026-01-01 12:00+00')"
                ),
                {"state": state},
            )
        connection.execute(
            text(
                "INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state, owner, lease_until)"
                " VALUES ('pay', 'a', 'f', 't', 'running', gen_random_uuid(), now()),"
                " ('pay', 'b', 'f', 'u', 'succeeded', NULL, NULL)"
            )
        )
    migrations.upgrade(empty_database)
    with begin(engine) as connection:
        ended = text("SELECT task_id, finished_at = started_at FROM reliable_tasks.results ORDER BY 1")
        assert [tuple(row) for row in connection.execute(ended)] == [
            ("dead", True),
            ("running", None),
            ("succeeded", True),
        ]
    engine.dispose()
