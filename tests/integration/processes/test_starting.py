"""A worker of several processes that must not start says so once, and ends."""

from tests.deployment import Deployment
from tests.integration.processes.conftest import WORKER


def test_what_no_node_can_start_with_is_told_once(around: Deployment) -> None:
    elsewhere = around.database_url + "_of_nobody"
    done = around.python("-m", *WORKER, "--processes", "3", RELIABLE_TASKS_DATABASE_URL=elsewhere)
    assert done.returncode == 7
    assert done.stderr.count("error[RT202]") == 1
    assert "node 1 cannot start: it has ended with exit code 7" in done.stderr


def test_processes_behind_options_of_celery_are_not_overlooked(around: Deployment) -> None:
    done = around.python("-m", *WORKER, "-l", "INFO", "--processes", "2")
    assert done.returncode == 2
    assert "must come before" in done.stderr


def test_a_queue_that_is_not_declared_is_told_with_those_that_are(around: Deployment) -> None:
    done = around.python("-m", *WORKER, "--processes", "2", "-Q", "nowhere")
    assert done.returncode == 1
    assert "error[RT306]: there is no queue nowhere in the topology" in done.stderr
    assert "hint: declare it there or use one of " in done.stderr
