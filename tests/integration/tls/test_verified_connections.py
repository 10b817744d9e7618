"""Broker, management API and database are spoken to only when they prove their name, by every client that we have."""

import datetime
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from reliable_tasks import ReliableCelery
from reliable_tasks.broker.connection import broker_version, connected
from reliable_tasks.broker.management import Management
from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.dev import Stack
from reliable_tasks.dev.ports import free_ports
from reliable_tasks.errors import BrokerUnreachable, DatabaseUnreachable, SettingError
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route
from reliable_tasks.settings import Settings, load_settings
from reliable_tasks.store.engine import create_engine, ping
from tests.integration.applied_topology import TOPOLOGY
from tests.tls_front import tls_front

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and where its certificate lies."""

    ca: trustme.CA
    file: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca, file = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(ca, file)


def certificates(authority: Authority) -> dict[str, trustme.LeafCert]:
    expired = {"not_before": YESTERDAY - datetime.timedelta(days=9), "not_after": YESTERDAY}
    return {
        "right": authority.ca.issue_cert("localhost"),
        "wrong name": authority.ca.issue_cert("elsewhere.test"),
        "expired": authority.ca.issue_cert("localhost", **expired),
        "unknown authority": trustme.CA().issue_cert("localhost"),
    }


BAD = ["wrong name", "expired", "unknown authority"]


def by_pika(settings: Settings) -> Any:
    with connected(settings.broker.url_text()) as connection:
        return broker_version(connection)


def by_publisher(settings: Settings) -> Any:
    def route(message: Message, capabilities: Capabilities) -> Route:
        return Route("amq.fanout", "x", "x", None)

    with closing(Publisher(settings.broker.url_text(), route)) as publisher:
        return publisher.publish_all([Message("t", "t", "", "", "q", b"{}", {"id": "t"})])


def by_celery(settings: Settings) -> Any:
    app = ReliableCelery("tls", topology=TOPOLOGY, settings=settings, set_as_current=False)
    try:
        with app.connection_for_read() as connection:
            # as a worker does, which goes from node to node
            connection.ensure_connection(max_retries=3, interval_start=0, reraise_as_library_errors=False)
            return connection.connected
    except OSError as error:
        raise BrokerUnreachable(str(error)) from error


def by_management(settings: Settings) -> Any:
    return Management(settings.broker.management_url, settings.broker.url_text()).version()


BROKER_CLIENTS = [by_pika, by_publisher, by_celery, by_management]


@pytest.fixture
def at(
    reliable_stack: Stack, fresh_vhost: str, empty_database: str, authority: Authority, monkeypatch: Any
) -> Callable[..., Any]:
    """Settings that lead through TLS with a certificate of this kind."""
    # an application tells Celery where its services are
    monkeypatch.setattr(os, "environ", dict(os.environ))
    broker, database = urlsplit(fresh_vhost), urlsplit(empty_database)
    management = urlsplit(reliable_stack.management_url)

    @contextmanager
    def leading(kind: str, ca: Path | None = authority.file, query: str = "") -> Iterator[Settings]:
        certificate = certificates(authority)[kind]
        with (
            tls_front(broker.port or 0, certificate) as amqps,
            tls_front(management.port or 0, certificate) as https,
            tls_front(database.port or 0, certificate, postgres=True) as postgres,
        ):
            who = f"{broker.username}:{broker.password}"
            owner = f"{database.username}:{database.password}"
            yield load_settings(
                {"RELIABLE_TASKS_TLS_CA": str(ca)} if ca else {},
                broker_url=f"amqps://{who}@localhost:{amqps.port}{broker.path}",
                management_url=f"https://localhost:{https.port}",
                database_url=f"postgresql://{owner}@localhost:{postgres.port}{database.path}{query}",
            )

    return leading


@pytest.mark.parametrize("client", BROKER_CLIENTS)
def test_a_broker_that_proves_its_name_is_spoken_to(at: Any, client: Callable[[Settings], Any]) -> None:
    with at("right") as settings:
        assert client(settings)


@pytest.mark.parametrize("client", BROKER_CLIENTS)
@pytest.mark.parametrize("kind", BAD)
def test_a_broker_that_does_not_is_told_no_password(
    at: Any, client: Callable[[Settings], Any], kind: str
) -> None:
    with at(kind) as settings, pytest.raises(BrokerUnreachable, match=r"(?i)certificate"):
        client(settings)


@pytest.mark.parametrize("client", BROKER_CLIENTS)
def test_an_authority_that_the_system_does_not_know_must_be_named(
    at: Any, client: Callable[[Settings], Any]
) -> None:
    with at("right", ca=None) as settings, pytest.raises(BrokerUnreachable, match=r"(?i)certificate"):
        client(settings)


@pytest.mark.parametrize("client", [by_pika, by_publisher, by_celery])
def test_each_node_of_a_cluster_proves_its_own_name(
    fresh_vhost: str, authority: Authority, client: Callable[[Settings], Any]
) -> None:
    broker = urlsplit(fresh_vhost)
    who = f"amqps://{broker.username}:{broker.password}@"
    (absent,) = free_ports(1)
    with (
        tls_front(broker.port or 0, authority.ca.issue_cert("localhost")) as one,
        tls_front(broker.port or 0, authority.ca.issue_cert("127.0.0.1")) as other,
    ):
        for last in (f"localhost:{one.port}", f"127.0.0.1:{other.port}"):
            nodes = [f"{who}{place}{broker.path}" for place in (f"127.0.0.1:{absent}", last)]
            settings = load_settings(
                {"RELIABLE_TASKS_TLS_CA": str(authority.file)}, broker_url=";".join(nodes)
            )
            assert client(settings)


VERIFIED = "?sslmode=verify-full"


def test_a_database_that_proves_its_name_is_spoken_to(at: Any) -> None:
    with at("right", query=VERIFIED) as settings:
        assert ping(create_engine(settings.database.url_text()))


@pytest.mark.parametrize("kind", BAD)
def test_a_database_that_does_not_is_told_no_password(at: Any, kind: str) -> None:
    with (
        at(kind, query=VERIFIED) as settings,
        pytest.raises(DatabaseUnreachable, match=r"certificate|server name"),
    ):
        ping(create_engine(settings.database.url_text()))


def test_a_file_of_authorities_that_is_not_there_is_named(at: Any, tmp_path: Path) -> None:
    with at("right", ca=tmp_path / "none.pem") as settings, pytest.raises(SettingError, match="none"):
        by_pika(settings)
