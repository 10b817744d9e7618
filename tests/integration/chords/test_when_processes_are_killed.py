"""A process is killed where its chord's counter and its body could come apart: the body still runs once."""

import pytest

from tests.deployment import Deployment
from tests.integration.chords.conftest import APPLICATION, seen_by_the_database

PARTS = 8
TOGETHER = {"ALONE": "1"}
"""Nobody may ask such a worker about single tasks, so that those without effects share commits."""

SEND = f"""
import sys
from celery import chord
from {APPLICATION} import add_up, part, pure
kind = {{"part": part, "pure": pure}}[sys.argv[2]]
print(chord((kind.s(sys.argv[1], n) for n in range(int(sys.argv[3]))), add_up.s(sys.argv[1])).delay().id)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["part", "pure"])
@pytest.mark.parametrize(
    "failpoint",
    [
        "worker.before_commit:kill:2",  # every second commit of a process, the last ones and the body's among them
        "worker.after_commit_before_ack:kill:2",
        "relay.after_confirm:kill:1",
    ],
)
def test_the_body_runs_once_with_all_results(
    deployment: Deployment, unique: str, failpoint: str, kind: str
) -> None:
    database = seen_by_the_database(deployment)
    in_relay = failpoint.startswith("relay")
    services = {"RELIABLE_TASKS_FAILPOINT": failpoint} if in_relay else {}
    worker = {} if in_relay else {"RELIABLE_TASKS_FAILPOINT": failpoint}
    sent = deployment.python("-c", SEND, unique, kind, str(PARTS))
    assert sent.returncode == 0, sent.stderr
    body = sent.stdout.strip()
    with deployment.worker(APPLICATION, "dies", "-c", "2", **worker, **TOGETHER):
        if in_relay:
            with deployment.services(APPLICATION, **services) as dying:
                assert dying.wait(60) != 0
        with deployment.services(APPLICATION):
            row = database.until(body, "succeeded", 100)
    assert bytes(row["result"]) == str(sum(range(PARTS))).encode()
    assert database.sent(body) == 1
    good = "SELECT count(*) FROM reliable_tasks.attempts WHERE task_id = :id AND state = 'succeeded'"
    assert database.one(good, id=body) == 1
    assert database.one("SELECT count(*) FROM reliable_tasks.chords WHERE state = 'sent'") == 1


def test_parts_without_effects_share_commits_and_are_counted_with_them(
    deployment: Deployment, unique: str
) -> None:
    database = seen_by_the_database(deployment)
    sent = deployment.python("-c", SEND, unique, "pure", "100")
    assert sent.returncode == 0, sent.stderr
    body = sent.stdout.strip()
    with deployment.services(APPLICATION), deployment.worker(APPLICATION, "worker", "-c", "2", **TOGETHER):
        row = database.until(body, "succeeded", 60)
    assert bytes(row["result"]) == str(sum(range(100))).encode()
    assert database.sent(body) == 1
    commits = "SELECT count(DISTINCT xmin::text) FROM reliable_tasks.results WHERE name LIKE '%.pure'"
    assert database.one(commits) < 40
