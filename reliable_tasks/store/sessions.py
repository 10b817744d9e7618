"""Sessions for users' own code: one in a running task's transaction, and writing the outbox through theirs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

__all__ = ["Session", "TaskSession", "around_commit", "execute_in", "session_in"]


class TaskSession(Session):
    """A session whose transaction is its task's: closing it, or leaving its `with` block, keeps what it did.

    SQLAlchemy's own would undo that, and the task would succeed without its effect.
    """

    def close(self) -> None:
        if self.in_transaction():
            self.commit()
        super().close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.give_up()

    def give_up(self) -> None:
        """Undo what was not committed, and close."""
        super().close()


@contextmanager
def session_in(connection: Connection) -> Iterator[Session]:
    """A session in a savepoint of the connection's transaction: flushed at the end, undone on error.

    Its commit() and rollback() end savepoints only: the transaction belongs to the claim and the result too.
    """
    session = TaskSession(bind=connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
    try:
        yield session
        session.commit()
    finally:
        session.give_up()


def execute_in(session: Any, statement: Any) -> Any:
    """Execute in the caller's Session (done at once) or AsyncSession (returns an awaitable)."""
    return session.execute(statement)


def around_commit(session: Any, reach: Callable[..., None]) -> None:
    """Pass the sender's windows when the caller's Session (an AsyncSession's own, too) commits; once each."""
    of = getattr(session, "sync_session", session)
    if not isinstance(of, Session):
        return  # a Connection does not say that it has committed

    def before(committing: Session) -> None:
        if not committing.in_nested_transaction():
            reach("pub.before_commit", committing.connection().connection)

    def after(committing: Session) -> None:
        if not committing.in_nested_transaction():
            reach("pub.after_commit")

    event.listen(of, "before_commit", before, once=True)
    event.listen(of, "after_commit", after, once=True)
