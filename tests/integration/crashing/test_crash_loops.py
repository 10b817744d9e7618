"""A message that kills its worker again and again: it is dead at last, and nobody else for it."""

from typing import Any

from tests.database import Database
from tests.deployment import Deployment
from tests.integration.crashing.conftest import APPLICATION


def test_what_a_worker_had_taken_beside_a_killer_is_not_condemned_with_it(
    deployment: Deployment, database: Database, send: Any
) -> None:
    """Each death gives all of it back, redelivered more often than one crash would allow; but it had not begun."""
    killer = send("kill_all", "k")
    innocents = [send("pay", f"p{number}") for number in range(3)]
    for number in range(2):
        with deployment.program(
            f"worker{number}", "celery", "-A", APPLICATION, "worker", "-c", "1"
        ) as worker:
            assert worker.wait(60) == -9
    assert (deployment.place / "k-began").read_text() == "xx"
    with deployment.worker(APPLICATION, "last", "-c", "1"):
        assert database.until(killer, "dead")["reason"] == "poison"
        for task_id in innocents:
            database.until(task_id, "succeeded")
    assert [database.effects(f"p{number}") for number in range(3)] == [1, 1, 1]
    states = database.rows("SELECT state FROM reliable_tasks.attempts WHERE name LIKE '%.pay'")
    assert [row["state"] for row in states] == ["succeeded"] * 3
