"""The lead of a loop: held by a database session of its own, so that it ends when the process or the session does."""

from contextlib import suppress
from typing import Any

from reliable_tasks.store.engine import explained
from reliable_tasks.store.leadership import Lead, lead


class Leadership:
    """Whether this process is the one that leads; asked before each pass."""

    def __init__(self, engine: Any, what: Lead) -> None:
        self._engine = engine
        self._what = what
        self._session: Any = None

    def held(self) -> bool:
        """Lead, or go on leading; False while another does.

        Raises:
            DatabaseUnreachable: when the database cannot be reached or went away.
        """
        with explained(self._engine):
            return self._held()

    def _held(self) -> bool:
        if self._session is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if not lead(connection, self._what):
                connection.close()
                return False
            self._session = connection
        try:
            # a lost session has lost the lock as well
            self._session.exec_driver_sql("SELECT 1")
        except Exception:
            with suppress(Exception):
                self._session.invalidate()
            self._session = None
            raise
        return True

    def give_up(self) -> None:
        """Let the next one lead."""
        if self._session is None:
            return
        with suppress(Exception):
            # back in the pool, its session would keep the lock
            self._session.invalidate()
            self._session.close()
        self._session = None
