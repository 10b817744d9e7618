"""The time of day for records: this machine's clock, corrected when the database's says something else."""

from datetime import UTC, datetime, timedelta
from typing import Any

TOLERATED = timedelta(seconds=1)
"""Less is not known for certain: the answer of a busy database takes a while."""

_ahead = timedelta()


def record_time() -> datetime:
    """Now, aware UTC, for what people and auditors read; what is decided by time is decided in the database.

    Of a machine whose clock is wrong, an attempt could end before its task was sent.
    """
    return datetime.now(UTC) + _ahead


def compare(connection: Any) -> None:
    """Ask the database for the time over a DBAPI connection that is in no transaction, and note how far off we are."""
    global _ahead
    with connection.cursor() as cursor:
        asked = datetime.now(UTC)
        cursor.execute("SELECT clock_timestamp()")
        (told,) = cursor.fetchone()
        answered = datetime.now(UTC)
    connection.rollback()
    right = asked - TOLERATED <= told <= answered + TOLERATED
    _ahead = timedelta() if right else told - asked
