"""The bank's tables in the deployment's database, and who looks at the money while the run goes on."""

import threading
from typing import Any

import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.history import History

ACCOUNTS = 200
OPENING = 1_000_000
CLOSED = ("closed-1", "closed-2")
WATCH_SECONDS = 0.2

_TABLES = f"""
CREATE SCHEMA bank;
CREATE TABLE bank.accounts (account_id text PRIMARY KEY, opening bigint NOT NULL, balance bigint NOT NULL);
CREATE TABLE bank.closed (account_id text PRIMARY KEY);
CREATE TABLE bank.effect_log (
    id bigint GENERATED ALWAYS AS IDENTITY, key text, task_id text, source text, target text, amount bigint,
    at timestamptz DEFAULT clock_timestamp()
);
INSERT INTO bank.accounts SELECT n::text, {OPENING}, {OPENING} FROM generate_series(1, {ACCOUNTS}) n;
INSERT INTO bank.accounts SELECT id, {OPENING}, {OPENING} FROM unnest(ARRAY{list(CLOSED)}) id;
INSERT INTO bank.closed SELECT unnest(ARRAY{list(CLOSED)});
"""


def create(engine: sqlalchemy.Engine) -> None:
    """Make and fill them."""
    with engine.begin() as connection:
        connection.exec_driver_sql(_TABLES)


class Watch:
    """Looks at all balances five times a second, and notes what it saw."""

    def __init__(self, engine: sqlalchemy.Engine, history: History) -> None:
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._history = history
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        query = text(
            "SELECT sum(balance) AS sum, sum(opening) AS opening, min(balance) AS least FROM bank.accounts"
        )
        while not self._stop.wait(WATCH_SECONDS):
            try:
                with self._engine.connect() as connection:
                    row = connection.execute(query).mappings().one()
            except SQLAlchemyError:
                continue  # the database is away: that is a fault, and not ours to judge
            self._history.say("snapshot", **{name: int(value) for name, value in row.items()})
