"""What Celery reads of the environment, after we published into it."""

import os

import pytest

from reliable_tasks.settings import Settings, load_settings, publish_celery_environment

DOCUMENT = {
    "CELERY_BROKER": "rabbitmq",
    "RABBITMQ_HOST": "rabbitmq",
    "RABBITMQ_USER": "admin",
    "RABBITMQ_PASSWORD": "secure_password",
    "CELERY_RESULT_BACKEND": "postgres",
    "DB_HOST": "postgres",
    "DB_NAME": "dbrag",
    "DB_USER": "dbrag_user",
    "DB_PASSWORD": "your_password",
    "CELERY_RESULT_EXPIRES": "0",
}
BROKER = "amqp://admin:secure_password@rabbitmq:5672/%2F"


def published(environ: dict[str, str]) -> tuple[Settings, dict[str, str]]:
    settings = load_settings(environ)
    after = dict(environ)
    publish_celery_environment(settings, after)
    return settings, after


def test_the_documents_values_become_urls() -> None:
    settings, after = published(DOCUMENT)
    assert after["CELERY_BROKER_URL"] == BROKER
    assert after["CELERY_RESULT_BACKEND"] == settings.database.result_backend_text()


def test_a_bare_name_in_the_broker_url_is_no_order() -> None:
    _, after = published({**DOCUMENT, "CELERY_BROKER_URL": "rabbitmq"})
    assert after["CELERY_BROKER_URL"] == BROKER


def test_an_explicit_broker_url_survives() -> None:
    explicit = "amqp://u:p@h:1/v"
    _, after = published(
        {**DOCUMENT, "RELIABLE_TASKS_BROKER_URL": "amqp://other/v", "CELERY_BROKER_URL": explicit}
    )
    assert after["CELERY_BROKER_URL"] == explicit


def test_publishing_twice_changes_nothing() -> None:
    _, once = published(DOCUMENT)
    settings, twice = published(once)
    assert once == twice
    assert settings.origins["RABBITMQ_HOST"] == "environment RABBITMQ_HOST"


def test_a_child_with_another_address_is_not_held_to_the_parents() -> None:
    _, parent = published(DOCUMENT)
    child = {
        **parent,
        "RELIABLE_TASKS_BROKER_URL": "amqp://u:p@h:1/child",
        "RELIABLE_TASKS_DATABASE_URL": "postgresql://u:p@h:1/child",
    }
    settings, after = published(child)
    assert settings.broker.url_text() == after["CELERY_BROKER_URL"] == "amqp://u:p@h:1/child"
    assert after["CELERY_RESULT_BACKEND"] == "reliable+postgresql://u:p@h:1/child"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "RELIABLE_TASKS_PUBLISHED"):
        monkeypatch.setenv(name, "")
    publish_celery_environment(load_settings(DOCUMENT))
    assert os.environ["CELERY_BROKER_URL"] == BROKER
