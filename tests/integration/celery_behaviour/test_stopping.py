"""A worker that is told to stop at once."""

import signal

from tests.database import Database
from tests.deployment import Deployment
from tests.integration.celery_behaviour.effects import APPLICATION, with_effects
from tests.waiting import wait_until

TOLD_WITHIN_A_WRITE = "tests.integration.celery_behaviour.quit_within_a_write"
MARK = "told-within-a-write"


def test_a_task_that_runs_when_the_worker_is_told_to_stop_is_not_lost_as_cancelled(
    deployment: Deployment, unique: str
) -> None:
    around = with_effects(deployment)
    database = Database(around.database_url)
    send = f"from {APPLICATION} import pay_slowly; print(pay_slowly.delay({unique!r}).id)"
    with around.worker(APPLICATION, "first", "-c", "1") as process:
        sent = around.python("-c", send).stdout.strip()
        wait_until(lambda: (around.place / f"{unique}-began").exists(), "it runs")
        process.send_signal(signal.SIGQUIT)
        assert process.wait(30) == 0
    (around.place / f"{unique}-go").touch()
    with around.worker(APPLICATION, "second", "-c", "1"):
        database.until(sent, "succeeded")
    assert database.effects(unique) == 1


def test_a_worker_that_is_told_to_stop_within_a_write_does_not_keep_what_it_has_fetched_for_ever(
    deployment: Deployment, unique: str
) -> None:
    around = with_effects(deployment)
    names = [f"{unique}-{number}" for number in range(20)]
    send = f"from {APPLICATION} import pay; [pay.delay(name) for name in {names!r}]"
    database = Database(around.database_url)
    with around.worker(TOLD_WITHIN_A_WRITE, "first", "-c", "2") as process:
        assert around.python("-c", send).returncode == 0
        wait_until((around.place / MARK).exists, "it is told to stop")
        # an init system would kill it at last
        assert process.wait(30) == 0
    with around.worker(APPLICATION, "second", "-c", "2"):
        wait_until(lambda: [database.effects(name) for name in names] == [1] * 20, "each is paid, once", 60)
