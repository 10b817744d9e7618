"""Wrong input is one clear line with a hint and an exit code that is not zero; nothing is lost by it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.payments import APP
from tests.deployment import Deployment
from tests.programs import Done, python, reliable_tasks

WORKER = ("-m", "celery", "-A", APP, "worker", "-c", "1")


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port on which nothing listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


def one_line(done: Done, code: str, exit_code: int, *words: str) -> None:
    """The output is an error line and a hint, without the secret and without a traceback."""
    lines = [line for line in done.stderr.strip().splitlines() if line]
    assert (done.returncode, len(lines)) == (exit_code, 2), done.stderr
    assert lines[0].startswith(f"error[{code}]: "), done.stderr
    assert lines[1].startswith("hint: "), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "S3CRET" not in done.stderr + done.stdout


def wrong_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.username}:S3CRET@{parts.hostname}:{parts.port}{parts.path}"


def worker(around: Deployment, **variables: str) -> Done:
    return python(*WORKER, PYTHONWARNINGS="ignore", **{**around.environment(), **variables})


def test_a_worker_without_its_broker(deployment: Deployment, nowhere: int) -> None:
    url = f"amqp://u:S3CRET@127.0.0.1:{nowhere}/v"
    one_line(worker(deployment, RELIABLE_TASKS_BROKER_URL=url), "RT201", 7, str(nowhere))


def test_a_worker_with_the_wrong_broker_password(deployment: Deployment) -> None:
    url = wrong_password(deployment.broker_url)
    one_line(worker(deployment, RELIABLE_TASKS_BROKER_URL=url), "RT201", 7, "password")


def test_a_worker_without_its_database(deployment: Deployment, nowhere: int) -> None:
    url = f"postgresql://u:S3CRET@127.0.0.1:{nowhere}/d"
    one_line(worker(deployment, RELIABLE_TASKS_DATABASE_URL=url), "RT202", 7, str(nowhere))


def test_a_worker_with_the_wrong_database_password(deployment: Deployment) -> None:
    url = wrong_password(deployment.database_url)
    one_line(worker(deployment, RELIABLE_TASKS_DATABASE_URL=url), "RT202", 7, "DB_PASSWORD")


def test_a_worker_with_a_bad_setting(deployment: Deployment) -> None:
    one_line(worker(deployment, RABBITMQ_PORT="many"), "RT101", 1, "RABBITMQ_PORT")


@pytest.mark.parametrize("program", [("-m", "celery"), ("-m", "reliable_tasks.cli.main")])
def test_a_task_for_a_queue_that_is_not_declared(
    deployment: Deployment, tmp_path: Path, program: tuple[str, str]
) -> None:
    (tmp_path / "wrong.py").write_text(
        "from reliable_tasks import ReliableCelery\n"
        "app = ReliableCelery('wrong', topology='topology:TOPOLOGY')\n"
        "@app.idempotent_task(key='k:{x}', queue='paymnets')\n"
        "def pay(ctx, x): ...\n"
    )
    words = ("-A", "wrong", "worker") if program[1] == "celery" else ("worker", "-A", "wrong:app")
    around = {**deployment.environment(), "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    one_line(python(*program, *words, **around), "RT306", 1, "paymnets", "payments")


def test_sending_to_a_queue_that_is_not_declared(deployment: Deployment) -> None:
    code = (
        f"from {APP} import pay\nfrom reliable_tasks.errors import UnknownQueue\n"
        "try: pay.apply_async(('1', '1', '1.00'), queue='paymnets')\n"
        "except UnknownQueue as error: print(error)"
    )
    done = python("-c", code, **deployment.environment())
    assert "paymnets" in done.stdout, done.stderr
    assert "hint" in done.stdout


@pytest.mark.parametrize(
    "words",
    [("results", "list"), ("dead-letters", "list"), ("tasks", "cancel", "x", "--yes"), ("results", "stats")],
)
def test_commands_on_a_database_without_the_schema(
    deployment: Deployment, empty_database: str, words: tuple[str, ...]
) -> None:
    around = {**deployment.environment(), "RELIABLE_TASKS_DATABASE_URL": empty_database}
    one_line(reliable_tasks(*words, **around), "RT203", 1, "db upgrade")
