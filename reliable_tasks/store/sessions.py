"""For users' own code: sessions and cursors in a running task's transaction, and writing the outbox through theirs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.orm import Session

from reliable_tasks.store.lending import Lent, TaskCursor

__all__ = ["Session", "TaskCursor", "Work", "around_commit", "execute_in", "work_on"]


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


class Work:
    """What a task's function works with in its transaction, each made when it is asked for.

    Args:
        lent: the connection.
        connect: gives SQLAlchemy's connection on it.
    """

    def __init__(self, lent: Lent, connect: Callable[[], Connection]) -> None:
        self._lent = lent
        self._connect = connect
        self._session: TaskSession | None = None

    @property
    def session(self) -> Session:
        """A session in a savepoint of the transaction.

        Its commit() and rollback() end savepoints only: the transaction belongs to the claim and the result too.
        """
        if self._session is None:
            if self._lent.is_over:
                raise ResourceClosedError("the task that this session would be for is over")
            self._session = TaskSession(
                bind=self._connect(), join_transaction_mode="create_savepoint", expire_on_commit=False
            )
        return self._session

    def cursor(self) -> TaskCursor:
        """The driver's own cursor."""
        made: TaskCursor = self._lent.cursor()
        return made

    def keep(self) -> None:
        """Flush and keep what the session did."""
        if self._session is not None:
            self._session.commit()
        if self._lent.used and self._lent.has_failed:
            self.cursor().execute("SELECT 1")  # which says what is wrong

    def close(self) -> None:
        """Undo what the session did and was not kept; nothing can be done with it any more."""
        try:
            if self._session is not None:
                self._session.give_up()
        finally:
            self._lent.take_back()


@contextmanager
def work_on(lent: Lent, connect: Callable[[], Connection]) -> Iterator[Work]:
    """What is done inside the block; what its session did is flushed at the end, undone on error."""
    work = Work(lent, connect)
    try:
        yield work
        work.keep()
    finally:
        work.close()


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
