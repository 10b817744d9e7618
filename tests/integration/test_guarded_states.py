"""What the enums say of states, the database says too: for every pair of them, whoever writes it."""

from typing import Any

import pytest
from sqlalchemy import CheckConstraint, text
from sqlalchemy.exc import IntegrityError

from reliable_tasks.model.states import (
    CLAIM_TRANSITIONS,
    DEAD_LETTER_TRANSITIONS,
    ENDS,
    TRANSITIONS,
    ClaimState,
    DeadLetterState,
    TaskState,
)
from reliable_tasks.store.engine import begin, create_engine
from reliable_tasks.store.tables import SCHEMA, metadata

HELD = "owner = gen_random_uuid(), lease_until = now(), fence = fence + 1"
FREE = "owner = NULL, lease_until = NULL"
CLAIM = """
INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state, fence, owner, lease_until)
VALUES ('pay', 'k', 'f', 't', :state, 1, CASE WHEN :state = 'running' THEN gen_random_uuid() END,
        CASE WHEN :state = 'running' THEN now() END)
"""
RESULT = """
INSERT INTO reliable_tasks.results (id, task_id, state, duplicate_of, finished_at)
VALUES (gen_random_uuid(), 't', :state, CASE WHEN :state = 'duplicate' THEN 'u' END, now())
"""
LETTER = """
INSERT INTO reliable_tasks.dead_letters (task_id, replay, state, reason, body, headers, properties)
VALUES ('t', 0, :state, 'r', '', '{}', '{}')
"""


def accepted(engine: Any, row: str, source: str, update: str) -> bool:
    """Whether a row in this state takes the update."""
    with engine.connect() as connection:
        connection.execute(text(row), {"state": source})
        try:
            assert connection.execute(text(update)).rowcount == 1
        except IntegrityError as refused:
            if "cannot become" not in str(refused.orig):
                raise
            return False
        finally:
            connection.rollback()
    return True


def claim_update(target: ClaimState, more: str = "replay = replay + 1") -> str:
    return (
        f"UPDATE reliable_tasks.claims SET state = '{target}', {more}, "
        f"{HELD if target is ClaimState.RUNNING else FREE}"
    )


def test_claims_move_as_declared(engine: Any) -> None:
    for source in ClaimState:
        found = {target for target in ClaimState if accepted(engine, CLAIM, source, claim_update(target))}
        assert found - {source} == CLAIM_TRANSITIONS[source] - {source}, source


def test_results_move_as_declared(engine: Any) -> None:
    for source in TaskState:
        found = {
            target
            for target in TaskState
            if accepted(
                engine,
                RESULT,
                source,
                f"UPDATE reliable_tasks.results SET state = '{target}', "
                f"duplicate_of = {'NULL' if target is not TaskState.DUPLICATE else repr('u')}",
            )
        }
        assert found - {source} == TRANSITIONS[source] - {source}, source


def test_dead_letters_move_as_declared(engine: Any) -> None:
    for source in DeadLetterState:
        found = {
            target
            for target in DeadLetterState
            if accepted(engine, LETTER, source, f"UPDATE reliable_tasks.dead_letters SET state = '{target}'")
        }
        assert found - {source} == DEAD_LETTER_TRANSITIONS[source], source


@pytest.mark.parametrize(
    ("source", "update"),
    [
        ("running", "UPDATE reliable_tasks.claims SET fence = fence - 1"),
        ("running", "UPDATE reliable_tasks.claims SET owner = gen_random_uuid()"),
        ("retry_wait", "UPDATE reliable_tasks.claims SET fingerprint = 'g'"),
        ("retry_wait", "UPDATE reliable_tasks.claims SET replay = replay - 1"),
        ("dead", claim_update(ClaimState.RUNNING, "attempts = 1")),
    ],
    ids=["a lower fence", "another owner of one fence", "another payload", "an earlier replay", "no replay"],
)
def test_a_claim_is_not_changed_in_what_keeps_it_safe(engine: Any, source: str, update: str) -> None:
    assert not accepted(engine, CLAIM, source, update)


@pytest.mark.parametrize("state", sorted(ENDS))
def test_an_end_has_its_time(engine: Any, state: TaskState) -> None:
    with pytest.raises(IntegrityError, match="ck_results_ended"), begin(engine) as connection:
        connection.execute(text(RESULT.replace("now()", "NULL")), {"state": state})


def test_the_declared_checks_are_those_of_the_migrations(fresh_database: str, empty_database: str) -> None:
    declared = create_engine(empty_database)
    with begin(declared) as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        metadata.create_all(connection)
    migrated = create_engine(fresh_database)
    try:
        assert checks(declared) == checks(migrated)
        assert len(checks(declared)) == sum(
            isinstance(constraint, CheckConstraint)
            for table in metadata.tables.values()
            for constraint in table.constraints
        )
    finally:
        declared.dispose()
        migrated.dispose()


def checks(engine: Any) -> dict[str, str]:
    """The CHECK constraints of a database as it shows them."""
    query = """
        SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c
          JOIN pg_namespace n ON n.oid = c.connamespace WHERE nspname = :schema AND contype = 'c'
    """
    with begin(engine) as connection:
        return {row[0]: row[1] for row in connection.execute(text(query), {"schema": SCHEMA})}
