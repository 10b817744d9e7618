"""What integration tests share: the vhost and the database of one test, from both sides."""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pika
import pika.exceptions
import pytest

from reliable_tasks import ReliableCelery
from reliable_tasks.broker.dead_letter_source import DeadLetterSource
from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.services.collector import Collector
from reliable_tasks.settings import Settings, load_settings
from reliable_tasks.store.engine import create_engine
from tests.integration.applied_topology import TOPOLOGY, applied


@pytest.fixture
def settings(reliable_stack: Stack, fresh_vhost: str, fresh_database: str) -> Settings:
    """The settings that lead to this test's vhost and database."""
    return load_settings(
        {},
        broker_url=fresh_vhost,
        database_url=fresh_database,
        management_url=reliable_stack.management_url,
    )


@pytest.fixture
def management(reliable_stack: Stack, fresh_vhost: str) -> Management:
    """The management API, for the vhost of this test."""
    return Management(reliable_stack.management_url, fresh_vhost)


@pytest.fixture
def applied_shape(management: Management, fresh_vhost: str) -> None:
    """This repository's topology is there."""
    applied(TOPOLOGY, management, fresh_vhost)


@pytest.fixture
def channel(fresh_vhost: str) -> Iterator[Any]:
    """A channel with publisher confirms in the vhost of this test."""
    with closing(pika.BlockingConnection(pika.URLParameters(fresh_vhost))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


@pytest.fixture
def engine(fresh_database: str) -> Iterator[Any]:
    """Our way into the database of this test."""
    engine = create_engine(fresh_database)
    yield engine
    engine.dispose()


@pytest.fixture
def collector(
    settings: Settings, engine: Any, applied_shape: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collector]:
    """The collector of an application that knows the task `pay`."""
    # an application tells Celery where its services are
    monkeypatch.setattr(os, "environ", dict(os.environ))
    app = ReliableCelery("collecting", topology=TOPOLOGY, settings=settings, set_as_current=False)
    app.task(name="pay", shared=False)(print)
    source = DeadLetterSource(settings.broker.url_text(), TOPOLOGY.dead_letter_queues())
    with closing(Collector(engine, source, app.tasks.__contains__, app.queue_and_level)) as collector:
        yield collector
