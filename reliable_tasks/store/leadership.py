"""Leading: one process at a time does what two would do twice, by an advisory lock that ends with its session."""

from enum import IntEnum

from sqlalchemy import Connection, text


class Lead(IntEnum):
    """What is led; the number is the lock's."""

    RELAY = 7411
    SWEEPER = 7412


def lead(connection: Connection, what: Lead) -> bool:
    """Become the one leader, for as long as this session lives."""
    query = text("SELECT pg_try_advisory_lock(:lock, 0)")
    return bool(connection.execute(query, {"lock": int(what)}).scalar())
