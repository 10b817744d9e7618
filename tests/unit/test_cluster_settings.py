"""Settings that name the nodes of a cluster."""

import pytest
from kombu import Connection

from reliable_tasks.errors import SettingError
from reliable_tasks.settings import load_settings

NODES = "amqp://u:S3%3BCRET@h:5672/v;amqp://u:S3%3BCRET@i:1/v"


def test_a_cluster_is_the_urls_of_its_nodes() -> None:
    settings = load_settings({"RELIABLE_TASKS_BROKER_URL": "amqp://u:S3;CRET@h/v;pyamqp://u:S3%3BCRET@i:1/v"})
    assert settings.broker.url_text() == settings.broker.celery_url_text() == NODES
    assert settings.broker.url_shown() == "amqp://u:***@h:5672/v;amqp://u:***@i:1/v"
    assert (settings.shown["RABBITMQ_HOST"], settings.shown["RABBITMQ_PORT"]) == ("h,i", "5672,1")
    assert "S3" not in f"{settings.shown}{settings!r}"
    kombu = Connection(settings.broker.celery_url_text())
    for host in ("h", "i", "h"):
        assert (kombu.hostname, kombu.password, kombu.virtual_host) == (host, "S3;CRET", "v")
        kombu.maybe_switch_next()


def test_a_cluster_may_be_named_by_its_hosts() -> None:
    settings = load_settings({"RABBITMQ_HOST": "h, i", "RABBITMQ_PORT": "7"})
    assert settings.broker.url_text() == "amqp://guest:guest@h:7/%2F;amqp://guest:guest@i:7/%2F"
    assert load_settings({"RELIABLE_TASKS_BROKER_URL": settings.broker.url_text()}).broker == settings.broker


@pytest.mark.parametrize(
    "other", ["amqp://u:p@i/w", "amqp://x:p@i/v", "amqp://u:q@i/v", "amqps://u:p@i/v", "amqp://u:p@i/v?a=1"]
)
def test_nodes_of_one_cluster_differ_in_nothing_but_their_place(other: str) -> None:
    with pytest.raises(SettingError, match="differ in more than host and port"):
        load_settings({"RELIABLE_TASKS_BROKER_URL": f"amqp://u:p@h/v;{other}"})


def test_production_looks_at_every_node() -> None:
    with pytest.raises(SettingError, match=r"refuses to speak to the broker at localhost, i without TLS"):
        load_settings({"RELIABLE_TASKS_ENV": "production", "RABBITMQ_HOST": "localhost,i"})
