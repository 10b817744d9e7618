"""Remote control with signatures: a forgery gets no mercy for bearing the id of a revoked task, and ends no other."""

from dataclasses import replace
from typing import Any

from tests.database import Database
from tests.deployment import Deployment
from tests.integration.signing.senders import APPLICATION, KEYS, body_of, publish
from tests.waiting import wait_until

SEND = f"import sys; from {APPLICATION} import pay; pay.apply_async(sys.argv[1:], task_id=sys.argv[1])"
REVOKE = f"""
import sys; from {APPLICATION} import app
while sys.argv[1] not in str(app.control.inspect(timeout=2).revoked()):
    app.control.revoke(sys.argv[1])
"""


def test_a_forgery_with_the_id_of_a_revoked_task_is_a_dead_letter(deployment: Deployment) -> None:
    around = replace(
        deployment, variables={"RELIABLE_TASKS_SIGNING_KEYS": KEYS, "RELIABLE_TASKS_REMOTE_CONTROL": "1"}
    )
    database, headers = Database(around.database_url), {"id": "x", "task": f"{APPLICATION}.pay"}
    with around.worker(APPLICATION, "main", "-c", "1"):
        done = around.python("-c", REVOKE, "x")
        assert done.returncode == 0, done.stderr
        publish(around, "payments", body_of("x"), headers)
        letters = "SELECT reason FROM reliable_tasks.dead_letters WHERE headers->>'id' = 'x'"
        wait_until(lambda: database.rows(letters) == [{"reason": "unsigned"}], "it is refused")
        assert around.python("-c", SEND, "x").returncode == 0
        database.until("x", "cancelled")
    assert not _ran(around, "x")


def _ran(around: Deployment, name: str) -> Any:
    return (around.place / name).exists()
