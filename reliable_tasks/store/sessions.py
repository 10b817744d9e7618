"""Sessions for users' own code: one in a running task's transaction, and writing the outbox through theirs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

__all__ = ["Session", "execute_in", "session_in"]


@contextmanager
def session_in(connection: Connection) -> Iterator[Session]:
    """A session in a savepoint of the connection's transaction: flushed at the end, undone on error.

    Its commit() and rollback() end savepoints only: the transaction belongs to the claim and the result too.
    """
    session = Session(bind=connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
    try:
        yield session
        session.commit()
    finally:
        session.close()


def execute_in(session: Any, statement: Any) -> Any:
    """Execute in the caller's Session (done at once) or AsyncSession (returns an awaitable)."""
    return session.execute(statement)
