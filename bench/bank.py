"""The work of a transfer, the same for all: a hot set of accounts, a ledger, and what must be true after it.

A transfer is: a claim of its key, two updates, a ledger row, a result, and in every tenth one message for an outbox.
"""

from typing import Any

ACCOUNTS = 1000
OPENING = 1_000_000
OUTBOX_EVERY = 10

TABLES = f"""
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE ledger (
    id bigserial PRIMARY KEY, key text NOT NULL, source int NOT NULL, target int NOT NULL,
    amount bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
INSERT INTO accounts SELECT n, {OPENING} FROM generate_series(1, {ACCOUNTS}) n;
"""

BY_HAND = """
CREATE TABLE idempotency (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE hand_outbox (
    id bigserial PRIMARY KEY, key text NOT NULL, body jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
"""
"""What a careful developer adds, whose task system has neither claims nor an outbox."""

CLAIM = "INSERT INTO idempotency (key) VALUES (%s) ON CONFLICT DO NOTHING"
UPDATE = "UPDATE accounts SET balance = balance + %s WHERE id = %s"
LEDGER = "INSERT INTO ledger (key, source, target, amount) VALUES (%s, %s, %s, %s)"
OUTBOX = "INSERT INTO hand_outbox (key, body) VALUES (%s, '{\"notify\": true}')"


def pair(serial: int) -> tuple[int, int]:
    """Two different accounts of the hot set, spread evenly and the same in every run."""
    source = (serial * 7919) % ACCOUNTS + 1
    target = (serial * 104729 + 13) % ACCOUNTS + 1
    return source, target if target != source else target % ACCOUNTS + 1


def changes(source: int, target: int, amount: int) -> list[tuple[int, int]]:
    """(change, account) in the order in which everybody locks accounts."""
    return [(change, account) for account, change in sorted({source: -amount, target: amount}.items())]


def sends(serial: int) -> bool:
    """Whether this transfer leaves a message in the outbox."""
    return serial % OUTBOX_EVERY == 0


def by_hand(cursor: Any, serial: int, source: int, target: int, amount: int) -> None:
    """The effect with its own claim, in the caller's transaction (psycopg2 or psycopg)."""
    key = f"transfer:{serial}"
    cursor.execute(CLAIM, (key,))
    if cursor.rowcount:
        for change in changes(source, target, amount):
            cursor.execute(UPDATE, change)
        cursor.execute(LEDGER, (key, source, target, amount))
        if sends(serial):
            cursor.execute(OUTBOX, (key,))


def verify(cursor: Any, transfers: int) -> None:
    """Money is kept and every transfer is there once.

    Raises:
        RuntimeError: else; a rate of wrong transfers is no figure.
    """
    cursor.execute("SELECT sum(balance) FROM accounts")
    (money,) = cursor.fetchone()
    cursor.execute("SELECT count(*), count(DISTINCT key) FROM ledger")
    rows, keys = cursor.fetchone()
    if money != ACCOUNTS * OPENING or not rows == keys == transfers:
        raise RuntimeError(f"{transfers} transfers left {rows} ledger rows of {keys} keys and {money} in all")
