"""With a synchronous standby: what is told as committed, or sent because it is, is with the standby.

Postgres ends a cancelled wait for the standby with a warning and then tells COMMIT as done, and from then on everybody
sees what a standby that takes over may never have had
(https://www.postgresql.org/docs/15/warm-standby.html#SYNCHRONOUS-REPLICATION-HA). The standby has the log in order: a
later commit that was waited for answers for all that were before it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from psycopg2 import OperationalError
from psycopg2.extensions import connection
from sqlalchemy import Connection

_LOG_NOTHING = "SELECT pg_logical_emit_message(true, 'reliable_tasks', '')"
"""Writes to the log, or the commit would not wait, and to nothing that a trigger could speak about."""

_LOG_NOTHING_FOR_A_STANDBY = f"{_LOG_NOTHING} WHERE current_setting('synchronous_standby_names') <> ''"


class ToldConnection(connection):
    """psycopg2's, whose commit returns when the transaction is kept for certain.

    What the warning says depends on the server's language and version; so whatever is said at a commit is answered by
    another one, which is nothing but a wait.
    """

    def commit(self) -> None:
        """Commit.

        Raises:
            psycopg2.OperationalError: when it is not known whether the standby has it; the connection is closed then,
                as when the answer to a COMMIT is lost.
        """
        if not self._says_something(super().commit):
            return
        with self.cursor() as cursor:
            cursor.execute(_LOG_NOTHING)
        if self._says_something(super().commit):
            self.close()
            raise OperationalError(
                "the wait for the synchronous standby was cancelled: the commit is in doubt"
            )

    def commit_within(self, statements: str, values: Sequence[Any]) -> Any:
        """Execute statements of which the last are a COMMIT, the BEGIN of the next transaction, and its first SELECT.

        Returns:
            The row that was selected.

        Raises:
            psycopg2.OperationalError: as `commit` does.
        """
        with self.cursor() as cursor:
            waited = not self._says_something(lambda: cursor.execute(statements, values))
            row = cursor.fetchone()
            if waited:
                return row
            cursor.execute(_LOG_NOTHING)
        self.commit()
        return row

    def _says_something(self, commit: Callable[[], None]) -> bool:
        before, self.notices = self.notices, []
        commit()
        said = list(self.notices)
        self.notices = [*before, *said]
        return bool(said)


def wait_at_commit(reading: Connection) -> None:
    """Let a transaction that has only read wait until the standby has what it saw; free where there is none."""
    reading.exec_driver_sql(_LOG_NOTHING_FOR_A_STANDBY)
