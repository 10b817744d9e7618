"""Claims that say from the beginning that their task has succeeded: the database itself lets none be committed so."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from reliable_tasks.store.identity import new_id
from tests.database import Database

CLAIM = text("SELECT reliable_tasks.claim_whole(:id, 'pay', :key, 'payload')")
CLAIM_TWO = text(
    "SELECT transaction::text, claimed FROM reliable_tasks.claim_wholes("
    "'pay', CAST(:ids AS uuid[]), ARRAY['b', 'a'], ARRAY['payload'::bytea, 'payload'])"
)
RECORD = text(
    "SELECT reliable_tasks.record_wholes(CAST(:transaction AS xid8), 'pay', CAST(:given_up AS text[]), 1, :rows)"
)
GIVE_UP = text("SELECT reliable_tasks.give_up_claims('pay', ARRAY['a', 'b'])")
KEYS = "SELECT key, state FROM reliable_tasks.claims ORDER BY key"


@pytest.fixture
def database(fresh_database: str) -> Database:
    return Database(fresh_database)


def rows_of(task_id: str, key: str) -> str:
    return f'[{{"id": "{task_id}", "key": "{key}", "started_at": "2026-01-01", "finished_at": "2026-01-01"}}]'


def test_a_claim_whose_result_is_not_recorded_cannot_be_committed(database: Database) -> None:
    connection = database.engine.connect()
    connection.execute(CLAIM, {"id": str(new_id()), "key": "a"})
    with pytest.raises(DBAPIError, match="would commit half of what it does"):
        connection.commit()
    connection.close()
    assert database.rows(KEYS) == []


def claimed(connection: Any) -> tuple[list[str], str]:
    ids = [str(new_id()) for _ in range(2)]
    transaction, taken = connection.execute(CLAIM_TWO, {"ids": ids}).one()
    assert set(taken) == set(ids)
    return ids, transaction


def test_of_a_batch_what_is_given_up_is_not_there_and_the_rest_is(database: Database) -> None:
    with database.engine.begin() as connection:
        (_b, a), transaction = claimed(connection)
        connection.execute(RECORD, {"transaction": transaction, "given_up": ["b"], "rows": rows_of(a, "a")})
    assert database.rows(KEYS) == [{"key": "a", "state": "succeeded"}]
    assert database.state(a) == "succeeded"


def test_a_batch_of_which_one_is_forgotten_cannot_be_committed(database: Database) -> None:
    connection = database.engine.connect()
    (_b, a), transaction = claimed(connection)
    connection.execute(RECORD, {"transaction": transaction, "given_up": [], "rows": rows_of(a, "a")})
    with pytest.raises(DBAPIError, match="for the key b"):
        connection.commit()
    connection.close()
    assert database.rows(KEYS) == []


def test_nothing_is_recorded_in_another_transaction_than_that_of_its_claim(database: Database) -> None:
    with database.engine.connect() as connection:
        (_b, a), transaction = claimed(connection)
        connection.rollback()
        with pytest.raises(DBAPIError, match="has ended the transaction of its claim"):
            connection.execute(RECORD, {"transaction": transaction, "given_up": [], "rows": rows_of(a, "a")})


def test_claims_of_other_transactions_are_not_given_up(database: Database) -> None:
    database.rows(
        "INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state) "
        "VALUES ('pay', 'a', '', 'x', 'dead')"
    )
    with database.engine.begin() as connection:
        connection.execute(GIVE_UP)
    assert database.rows(KEYS) == [{"key": "a", "state": "dead"}]
