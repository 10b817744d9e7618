"""An operator: the program as it is called without a terminal, and a look into the database."""

import json
from typing import Any

from tests.database import Database
from tests.deployment import Deployment
from tests.programs import Done
from tests.waiting import wait_until

APPLICATION = "tests.integration.operating.application"
SEND = """
import json, sys
from tests.integration.operating import application
name, priority, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[4])
task = getattr(application, name)
print(task.apply_async(kwargs=json.loads(sys.argv[3]), priority=priority, **options).id)
"""


class Operator:
    """The program, as an operator calls it without a terminal."""

    def __init__(self, around: Deployment) -> None:
        self.around = around
        self.database = Database(around.database_url)
        self.database.rows("CREATE TABLE accounts (id text PRIMARY KEY, balance numeric(20, 2) NOT NULL)")
        self.database.rows("CREATE TABLE effects (key text NOT NULL)")

    def run(self, *command: str, code: int = 0) -> Done:
        done = self._python("-m", "reliable_tasks.cli.main", *command)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def rows(self, *command: str, code: int = 0) -> list[dict[str, Any]]:
        """The JSON lines that a command prints."""
        return [
            json.loads(line) for line in self.run(*command, "--output", "json", code=code).stdout.splitlines()
        ]

    def record(self, *command: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*command, "--output", "json").stdout)
        return found

    def send(
        self, task: str, priority: int = 0, options: dict[str, Any] | None = None, **arguments: str
    ) -> str:
        """Send a task from a process of its own; returns its id."""
        sent = self._python("-c", SEND, task, str(priority), json.dumps(arguments), json.dumps(options or {}))
        assert sent.returncode == 0, sent.stderr
        return sent.stdout.strip()

    def dead_letters(self, task_id: str) -> list[dict[str, Any]]:
        return self.database.rows(
            "SELECT * FROM reliable_tasks.dead_letters WHERE task_id = :id ORDER BY id", id=task_id
        )

    def open_one(self, task_id: str) -> int:
        """The id of the open dead letter of a task, when there is one."""

        def found() -> int | None:
            return next((row["id"] for row in self.dead_letters(task_id) if row["state"] == "open"), None)

        number = wait_until(found, f"an open dead letter of {task_id}", 30)
        assert number is not None
        return number

    def died_of_no_funds(self, order_id: str, **options: Any) -> tuple[str, int]:
        """A payment from an empty account: the task id and its dead letter."""
        self.database.rows("INSERT INTO accounts VALUES (:id, 0)", id=order_id)
        task_id = self.send("pay", order_id=order_id, account=order_id, amount="10.10", **options)
        return task_id, self.open_one(task_id)

    def fund(self, account: str) -> None:
        self.database.rows("UPDATE accounts SET balance = 100 WHERE id = :id", id=account)

    def _python(self, *command: str) -> Done:
        return self.around.python(*command, RELIABLE_TASKS_APP=f"{APPLICATION}:app")
