"""Production: what it refuses to start with, in one line with what to do."""

import os

import pytest

from reliable_tasks import ReliableCelery
from reliable_tasks.errors import SettingError
from reliable_tasks.settings import load_settings
from tests.integration.applied_topology import TOPOLOGY

PRODUCTION = {
    "RABBITMQ_HOST": "rabbitmq",
    "RABBITMQ_USER": "admin",
    "RABBITMQ_PASSWORD": "secure_password",
    "DB_HOST": "postgres",
    "DB_NAME": "dbrag",
    "DB_USER": "dbrag_user",
    "DB_PASSWORD": "your_password",
    "RELIABLE_TASKS_ENV": "production",
    "RELIABLE_TASKS_SIGNING_KEYS": "a:" + "A" * 43 + "=",
    "RELIABLE_TASKS_TLS_CA": "/etc/ca.pem",
    "RABBITMQ_TLS": "1",
    "RABBITMQ_VHOST": "bank",
}


def test_production_refuses_unsafe_defaults() -> None:
    with pytest.raises(SettingError) as raised:
        load_settings({"RELIABLE_TASKS_ENV": "production"})
    assert "guest" in str(raised.value)
    assert "database" in str(raised.value)
    assert load_settings(PRODUCTION).env == "production"


@pytest.mark.parametrize(
    "off", [{}, {"RELIABLE_TASKS_SIGNING_KEYS": "a:" + "A" * 43, "RELIABLE_TASKS_SIGNING": "off"}]
)
def test_production_without_signing_is_refused_in_one_line_with_a_hint(off: dict[str, str]) -> None:
    with pytest.raises(SettingError) as raised:
        load_settings({**PRODUCTION, "RELIABLE_TASKS_SIGNING_KEYS": "", **off})
    assert "nobody has signed" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "openssl rand -base64 32" in raised.value.hint


def test_tls_is_asked_for_by_parts_and_verified() -> None:
    settings = load_settings(PRODUCTION)
    assert (
        settings.broker.url_text()
        == "amqps://admin:secure_password@rabbitmq:5671/bank?cacertfile=/etc/ca.pem"
    )
    assert settings.broker.celery_url_text() == "amqps://admin:secure_password@rabbitmq:5671/bank"
    assert settings.broker.management_url == "https://rabbitmq:15671"
    assert settings.database.url_text().endswith("/dbrag?sslrootcert=/etc/ca.pem&sslmode=verify-full")
    local = load_settings({**PRODUCTION, "DB_HOST": "127.0.0.1", "RELIABLE_TASKS_TLS_CA": ""})
    assert "sslmode" not in local.database.url_text()


@pytest.mark.parametrize(
    ("clear", "words"),
    [
        ({"RABBITMQ_TLS": "0", "RABBITMQ_PORT": "1"}, ["broker at rabbitmq", "RABBITMQ_TLS=1"]),
        (
            {"RELIABLE_TASKS_DATABASE_URL": "postgresql://u:S3CRET@h/d?sslmode=require"},
            ["sslmode=require", "verify-full"],
        ),
        (
            {"RELIABLE_TASKS_DATABASE_URL": "postgresql://u@127.0.0.1/d?host=h&sslmode=prefer"},
            ["sslmode=prefer"],
        ),
        ({"RELIABLE_TASKS_MANAGEMENT_URL": "http://127.0.0.1.test:15672"}, ["broker's password", "https://"]),
        ({"RABBITMQ_TLS": "0", "RABBITMQ_HOST": "localhost.test", "RABBITMQ_PORT": "1"}, ["localhost.test"]),
    ],
)
def test_production_refuses_to_speak_in_the_clear(clear: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingError) as raised:
        load_settings({**PRODUCTION, **clear})
    text = str(raised.value)
    assert all(word in text for word in words), text
    assert "S3CRET" not in text
    assert "\n" not in text
    assert load_settings({**PRODUCTION, **clear, "RELIABLE_TASKS_ENV": "development"})


def test_loopback_and_named_hosts_may_be_spoken_to_in_the_clear() -> None:
    plain = {
        **PRODUCTION,
        "RABBITMQ_TLS": "0",
        "RELIABLE_TASKS_DATABASE_URL": "postgresql://u@pg/d?sslmode=disable",
    }
    for host in ("localhost", "127.1.2.3", "::1", "rabbitmq"):
        allowed = {"RABBITMQ_HOST": host, "RELIABLE_TASKS_PLAINTEXT_HOSTS": "rabbitmq, pg"}
        assert load_settings({**plain, **allowed}).broker.url_text().startswith("amqp://")


@pytest.mark.parametrize(
    "named",
    [
        {"RABBITMQ_VHOST": "/"},
        {"RABBITMQ_VHOST": ""},
        {"RELIABLE_TASKS_BROKER_URL": "amqps://admin:x@rabbitmq"},
        {"RELIABLE_TASKS_BROKER_URL": "amqps://admin:x@rabbitmq/%2F"},
    ],
)
def test_production_refuses_the_virtual_host_that_everybody_uses(named: dict[str, str]) -> None:
    with pytest.raises(SettingError, match="virtual host /") as raised:
        load_settings({**PRODUCTION, **named})
    assert "add_vhost" in raised.value.hint
    assert load_settings({**PRODUCTION, **named, "RELIABLE_TASKS_ENV": "development"})


@pytest.mark.parametrize(
    ("variables", "asked", "on"),
    [
        ({}, True, False),
        ({"RELIABLE_TASKS_REMOTE_CONTROL": "1"}, False, True),
        ({"RELIABLE_TASKS_ENV": "development"}, False, False),
        ({"RELIABLE_TASKS_ENV": "development"}, True, True),
        ({"RELIABLE_TASKS_ENV": "development", "RELIABLE_TASKS_REMOTE_CONTROL": "1"}, False, True),
    ],
)
def test_in_production_only_a_setting_turns_remote_control_on(
    variables: dict[str, str], asked: bool, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an application tells Celery where its services are
    monkeypatch.setattr(os, "environ", dict(os.environ))
    settings = load_settings({**PRODUCTION, **variables})
    app = ReliableCelery(
        "one", topology=TOPOLOGY, settings=settings, remote_control=asked, set_as_current=False
    )
    assert app.conf.worker_enable_remote_control is on
