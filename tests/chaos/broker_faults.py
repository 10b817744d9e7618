"""What is done to the broker of a run: full queues, missing bindings, a process that stands still."""

import json
import os
import signal
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import pika
import pika.exceptions

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.model.physical import Binding
from reliable_tasks.settings.addresses import parse_broker
from tests.deployment import Deployment

_POLICY = "fault"


@contextmanager
def full_queues(around: Deployment, pattern: str) -> Iterator[None]:
    """Queues of these names take nothing beyond a message or two."""
    with _policy(around, pattern, {"max-length": 1}):
        yield


@contextmanager
def impatient_queues(around: Deployment, pattern: str, patience_ms: int) -> Iterator[None]:
    """Queues of these names take back what a consumer holds so long; of RabbitMQ 4.3, where queues decide that."""
    with _policy(around, pattern, {"consumer-timeout": patience_ms}):
        yield


@contextmanager
def without_bindings(around: Deployment, exchange: str) -> Iterator[None]:
    """No message reaches a queue through this exchange."""
    found = [
        one
        for one in Management(around.management_url, around.broker_url).live().bindings
        if one.exchange == exchange
    ]
    _bind(around, found, "queue_unbind")
    try:
        yield
    finally:
        _bind(around, found, "queue_bind")


@contextmanager
def paused(stack: Stack) -> Iterator[None]:
    """The broker's process stands still."""
    server = stack._state.broker.server
    assert server is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def everybody_connects_anew(stack: Stack) -> None:
    """The broker ends all connections."""
    # without that, those of the vhost / only
    stack.broker.rabbitmqctl("close_all_connections", "--global", "chaos")


def ready(around: Deployment, queue: str) -> int:
    """How many messages wait in a queue; 0 also for a level that this version of the broker has no queue for."""
    return _told(around, queue, "message_count")


def consumers(around: Deployment, queue: str) -> int:
    """How many consumers a queue has."""
    return _told(around, queue, "consumer_count")


def _told(around: Deployment, queue: str, what: str) -> int:
    with closing(pika.BlockingConnection(of_all_nodes(around.broker_url))) as connection:
        try:
            return int(getattr(connection.channel().queue_declare(queue, passive=True).method, what))
        except pika.exceptions.ChannelClosedByBroker:
            return 0


def of_all_nodes(broker_url: str) -> list[pika.URLParameters]:
    """What a connection to the first of the nodes that answers is made with."""
    return [pika.URLParameters(one) for one in broker_url.split(";")]


@contextmanager
def _policy(around: Deployment, pattern: str, definition: dict[str, int]) -> Iterator[None]:
    policy = {"pattern": pattern, "apply-to": "queues", "definition": definition, "priority": 1}
    _call(around, "PUT", policy)
    try:
        yield
    finally:
        _call(around, "DELETE", None)


def _bind(around: Deployment, bindings: Sequence[Binding], method: str) -> None:
    with closing(pika.BlockingConnection(of_all_nodes(around.broker_url))) as connection:
        channel = connection.channel()
        for one in bindings:
            getattr(channel, method)(one.queue, one.exchange, one.routing_key)


def _call(around: Deployment, method: str, body: Any) -> None:
    address = parse_broker(around.broker_url)
    account = b64encode(f"{address.user}:{address.password}".encode()).decode()
    request = Request(
        f"{around.management_url}/api/policies/{quote(address.path, safe='')}/{_POLICY}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {account}", "Content-Type": "application/json"},
    )
    build_opener(ProxyHandler({})).open(request, timeout=30).close()
