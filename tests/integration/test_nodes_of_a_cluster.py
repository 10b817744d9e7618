"""The broker's address may name several nodes: every client that we have takes the next one when one is away."""

from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.dev import Stack
from reliable_tasks.dev.ports import free_ports
from reliable_tasks.errors import BrokerUnreachable
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route
from reliable_tasks.settings import Settings, load_settings
from tests.integration.tls.test_verified_connections import BROKER_CLIENTS, by_publisher


@pytest.fixture
def cluster(reliable_stack: Stack, fresh_vhost: str) -> Callable[..., Settings]:
    """Settings with nodes that are there or not, of which those that are lead to one broker."""

    def named(*there: bool) -> Settings:
        broker, management = urlsplit(fresh_vhost), urlsplit(reliable_stack.management_url)
        ports = free_ports(2 * len(there))
        urls, apis = [], []
        for node in there:
            amqp, api = (broker.port, management.port) if node else (ports.pop(), ports.pop())
            urls.append(f"amqp://{broker.username}:{broker.password}@127.0.0.1:{amqp}{broker.path}")
            apis.append(f"http://127.0.0.1:{api}")
        return load_settings({}, broker_url=";".join(urls), management_url=";".join(apis))

    return named


@pytest.mark.parametrize("client", BROKER_CLIENTS)
@pytest.mark.parametrize("there", [(True, False), (False, True), (False, False, True)])
def test_the_first_node_that_answers_is_spoken_to(cluster: Any, client: Any, there: tuple[bool, ...]) -> None:
    assert client(cluster(*there))


@pytest.mark.parametrize("client", BROKER_CLIENTS)
def test_when_none_answers_that_is_said(cluster: Any, client: Any) -> None:
    with pytest.raises(BrokerUnreachable):
        client(cluster(False, False))


def test_after_a_failure_a_publisher_asks_another_node(cluster: Any) -> None:
    def route(message: Message, capabilities: Capabilities) -> Route:
        # the broker closes the channel, since no such exchange is there
        return Route("absent" if message.queue == "absent" else "amq.fanout", "x", "x", None)

    settings = cluster(True, False)
    with closing(Publisher(settings.broker.url_text(), route)) as publisher:
        for queue in ("there", "absent", "there"):
            publisher.publish_all([Message("t", "t", "", "", queue, b"{}", {"id": "t"})])
    assert by_publisher(settings)
