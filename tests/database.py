"""What tests read in a deployment's database."""

from typing import Any

import sqlalchemy
from sqlalchemy import text

from tests.waiting import wait_until


class Database:
    """The tables as they are now, each question in a transaction of its own."""

    def __init__(self, url: str) -> None:
        self.engine = sqlalchemy.create_engine(url)

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            found = connection.execute(text(query), values)
            return [dict(row) for row in found.mappings()] if found.returns_rows else []

    def one(self, query: str, **values: Any) -> Any:
        """The first column of the first row."""
        with self.engine.begin() as connection:
            return connection.execute(text(query), values).scalar()

    def wait_for(self, query: str, expected: Any, seconds: float = 60, **values: Any) -> None:
        """Wait until a query answers as expected."""
        wait_until(lambda: self.one(query, **values) == expected, f"{query} = {expected}", seconds)

    def result(self, task_id: str) -> dict[str, Any]:
        found = self.rows("SELECT * FROM reliable_tasks.results WHERE task_id = :id", id=task_id)
        return found[0] if found else {}

    def state(self, task_id: str) -> str | None:
        return self.result(task_id).get("state")

    def until(self, task_id: str, state: str, seconds: float = 20) -> dict[str, Any]:
        """The result row when it has this state."""
        wait_until(
            lambda: self.state(task_id) == state or self._seen(task_id), f"{task_id} is {state}", seconds
        )
        return self.result(task_id)

    def _seen(self, task_id: str) -> bool:
        raise AssertionError(f"it is {self.result(task_id)}")

    def effects(self, key: str) -> int:
        return len(self.rows("SELECT 1 AS one FROM effects WHERE key = :key", key=key))

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM reliable_tasks.attempts WHERE task_id = :id ORDER BY id", id=task_id)

    def dead_letter(self, task_id: str) -> dict[str, Any]:
        found = self.rows("SELECT * FROM reliable_tasks.dead_letters WHERE task_id = :id", id=task_id)
        return found[0] if found else {}

    def suppressed(self, task_id: str) -> list[str]:
        found = self.rows(
            "SELECT kind FROM reliable_tasks.suppressed_deliveries WHERE task_id = :id ORDER BY id",
            id=task_id,
        )
        return [row["kind"] for row in found]
