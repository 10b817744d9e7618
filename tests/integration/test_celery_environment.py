"""A real `celery` program, started with exactly the names that are documented for `.env`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pika
import pytest

from tests.programs import Process, program
from tests.waiting import wait_until

APPLICATION = """
from celery import Celery
from reliable_tasks.settings import load_settings, publish_celery_environment
publish_celery_environment(load_settings())
class Bank(Celery):
    # the broker alone is in question here
    backend_cls = "disabled"
app = Bank("bank")
"""


def document(broker_url: str, database_url: str) -> dict[str, str]:
    """The documented names for these services."""
    broker, database = urlsplit(broker_url), urlsplit(database_url)
    return {
        "CELERY_BROKER": "rabbitmq",
        "RABBITMQ_HOST": broker.hostname or "",
        "RABBITMQ_PORT": str(broker.port),
        "RABBITMQ_USER": unquote(broker.username or ""),
        "RABBITMQ_PASSWORD": unquote(broker.password or ""),
        "RABBITMQ_VHOST": vhost_of(broker_url),
        "CELERY_RESULT_BACKEND": "postgres",
        "CELERY_RESULT_EXPIRES": "0",
        "DB_HOST": database.hostname or "",
        "DB_PORT": str(database.port),
        "DB_NAME": unquote(database.path[1:]),
        "DB_USER": unquote(database.username or ""),
        "DB_PASSWORD": unquote(database.password or ""),
    }


def vhost_of(broker_url: str) -> str:
    return unquote(urlsplit(broker_url).path[1:])


CELERY = ("celery", "-A", "bank", "worker")
OURS = ("reliable_tasks.cli.main", "worker", "-A", "bank")


def worker(folder: Path, names: Mapping[str, str], *command: str) -> AbstractContextManager[Process]:
    options = ("-P", "solo", "--loglevel", "INFO")
    return program(folder / "worker.log", *command, *options, folder=folder, **names)


def wait_for_consumer(broker_url: str, process: Process, folder: Path) -> None:
    def consumers() -> int:
        if process.poll() is not None:
            pytest.fail((folder / "worker.log").read_text())
        with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
            return connection.channel().queue_declare("celery", passive=True).method.consumer_count

    wait_until(consumers, f"a worker that consumes in {vhost_of(broker_url)}", 30)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    (tmp_path / "bank.py").write_text(APPLICATION)
    return tmp_path


@pytest.mark.parametrize("program", [CELERY, OURS], ids=["celery", "reliable-tasks"])
def test_the_documents_env_file(
    fresh_vhost: str, empty_database: str, bank: Path, program: tuple[str, ...]
) -> None:
    lines = [f"{name}={value}\n" for name, value in document(fresh_vhost, empty_database).items()]
    (bank / ".env").write_text("".join(lines))
    with worker(bank, {}, *program) as process:
        wait_for_consumer(fresh_vhost, process, bank)


@pytest.mark.parametrize("program", [CELERY, OURS], ids=["celery", "reliable-tasks"])
def test_the_documents_names_in_the_environment(
    fresh_vhost: str, empty_database: str, bank: Path, program: tuple[str, ...]
) -> None:
    with worker(bank, document(fresh_vhost, empty_database), *program) as process:
        wait_for_consumer(fresh_vhost, process, bank)


def test_an_explicit_broker_beside_them_wins(fresh_vhost: str, empty_database: str, bank: Path) -> None:
    elsewhere = {
        **document(fresh_vhost, empty_database),
        "RABBITMQ_HOST": "nowhere.invalid",
        "RABBITMQ_VHOST": "/none",
    }
    with worker(bank, elsewhere, "celery", "-b", fresh_vhost, *CELERY[1:]) as process:
        wait_for_consumer(fresh_vhost, process, bank)
