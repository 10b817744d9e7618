"""Both ways of one program, to the broker and to the database, through proxies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy.engine import make_url

from reliable_tasks.settings.addresses import parse_broker
from tests.chaos.proxy import Proxy
from tests.deployment import Deployment


@dataclass(frozen=True)
class Wires:
    """The proxies, and the environment that leads a program through them."""

    broker: Proxy
    database: Proxy
    environment: dict[str, str]


@contextmanager
def wires(around: Deployment, seed: int) -> Iterator[Wires]:
    """Two proxies in front of a deployment's services."""
    # of a cluster, to its first node
    first = around.broker_url.partition(";")[0]
    broker, database = parse_broker(first), make_url(around.database_url)
    assert broker.host
    assert database.host
    with (
        Proxy("amqp", broker.host, broker.port or 5672, seed=seed) as to_broker,
        Proxy("postgres", database.host, database.port or 5432, seed=seed) as to_database,
    ):
        url = database.set(port=to_database.port)
        environment = {
            "RELIABLE_TASKS_BROKER_URL": first.replace(
                f"@{broker.host}:{broker.port}/", f"@127.0.0.1:{to_broker.port}/"
            ),
            "RELIABLE_TASKS_DATABASE_URL": url.render_as_string(hide_password=False),
        }
        yield Wires(to_broker, to_database, environment)


def in_front(around: Deployment) -> Proxy:
    """An address of the database, which can be led to another server."""
    database = make_url(around.database_url)
    assert database.host
    return Proxy("bytes", database.host, database.port or 5432)


def behind(around: Deployment, address: Proxy) -> Deployment:
    """The deployment as its programs see it, whose database is at this address."""
    url = make_url(around.database_url).set(host="127.0.0.1", port=address.port)
    return replace(around, database_url=url.render_as_string(hide_password=False))
