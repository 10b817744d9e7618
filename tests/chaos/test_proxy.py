"""The proxy between our own programs' clients and the real broker and database: it cuts where it is told to."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pika
import psycopg2
import pytest
from sqlalchemy.engine import make_url

from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.errors import BrokerUnreachable, PublishError, PublishUnconfirmed
from reliable_tasks.model.envelope import Message
from reliable_tasks.settings.addresses import parse_broker
from tests.chaos.amqp_frames import AmqpFrames
from tests.chaos.faults import Direction, Effect, Fault
from tests.chaos.postgres_messages import PostgresMessages, Sender
from tests.chaos.proxy import Proxy
from tests.deployment import Deployment
from tests.integration.applied_topology import TOPOLOGY, take
from tests.waiting import wait_until

QUEUE = "notifications"


def message(number: int) -> Message:
    return Message(
        task_id=f"m{number}",
        task_name="none",
        exchange="",
        routing_key="",
        queue=QUEUE,
        body=b"x" * 1000,
        headers={"id": f"m{number}", "task": "none"},
        properties={"content_type": "application/json", "content_encoding": "utf-8"},
    )


@pytest.fixture
def channel(deployment: Deployment) -> Iterator[Any]:
    """A channel that does not go through the proxy."""
    with closing(pika.BlockingConnection(pika.URLParameters(deployment.broker_url))) as connection:
        yield connection.channel()


@pytest.fixture
def broker(deployment: Deployment) -> Iterator[Proxy]:
    address = parse_broker(deployment.broker_url)
    with Proxy("amqp", address.host, address.port or 5672) as proxy:
        yield proxy


@pytest.fixture
def publisher(deployment: Deployment, broker: Proxy) -> Iterator[Publisher]:
    address = parse_broker(deployment.broker_url)
    url = deployment.broker_url.replace(f":{address.port}/", f":{broker.port}/")
    publisher = Publisher(
        url, lambda m, caps: TOPOLOGY.route(m.queue, m.priority, caps), deadline_seconds=2.0
    )
    with closing(publisher):
        yield publisher


@pytest.fixture
def database(deployment: Deployment) -> Iterator[Proxy]:
    url = make_url(deployment.database_url)
    with Proxy("postgres", url.host or "", url.port or 0) as proxy:
        yield proxy


def connected(deployment: Deployment, port: int | None = None) -> Any:
    url = make_url(deployment.database_url)
    return psycopg2.connect(
        host=url.host, port=port or url.port, user=url.username, password=url.password, dbname=url.database
    )


def kinds(outcomes: list[PublishError | None]) -> list[str]:
    return ["confirmed" if outcome is None else type(outcome).__name__ for outcome in outcomes]


def held(deployment: Deployment, count: int, channel: Any) -> list[str]:
    return [take(channel, QUEUE)[1].message_id for _ in range(count)]


def test_what_passes_unharmed_is_confirmed(publisher: Publisher, broker: Proxy) -> None:
    broker.delay(0.01, jitter=0.02)
    assert kinds(publisher.publish_all([message(n) for n in range(10)])) == ["confirmed"] * 10
    assert broker.connections() == 1


def test_the_answer_of_the_broker_is_lost_and_not_the_message(
    publisher: Publisher, broker: Proxy, deployment: Deployment, channel: Any
) -> None:
    fault = broker.when(Fault(Effect.RESET, "basic.ack", Direction.TO_CLIENT))
    assert kinds(publisher.publish_all([message(0)])) == ["PublishUnconfirmed"]
    assert fault.fired.is_set()
    assert held(deployment, 1, channel) == ["m0"]
    assert kinds(publisher.publish_all([message(1)])) == ["confirmed"]


def test_a_connection_is_cut_before_the_kth_publish(
    publisher: Publisher, broker: Proxy, deployment: Deployment, channel: Any
) -> None:
    broker.when(Fault(Effect.CLOSE, "basic.publish", nth=3))
    assert kinds(publisher.publish_all([message(0), message(1)])) == ["confirmed"] * 2
    assert kinds(publisher.publish_all([message(2), message(3)])) == ["PublishUnconfirmed"] * 2
    assert held(deployment, 2, channel) == ["m0", "m1"]
    assert channel.basic_get(QUEUE)[0] is None


def test_a_connection_is_cut_within_a_message(
    publisher: Publisher, broker: Proxy, deployment: Deployment, channel: Any
) -> None:
    assert kinds(publisher.publish_all([message(0)])) == ["confirmed"]
    publisher.close()
    fault = broker.when(Fault(Effect.RESET, nth=800))
    assert kinds(publisher.publish_all([message(1)])) == ["PublishUnconfirmed"]
    assert fault.fired.is_set()
    assert held(deployment, 1, channel) == ["m0"]
    assert channel.basic_get(QUEUE)[0] is None


def test_a_deaf_client_is_not_told_and_the_broker_has_the_message(
    publisher: Publisher, broker: Proxy, deployment: Deployment, channel: Any
) -> None:
    fault = broker.when(Fault(Effect.DEAF_CLIENT, "basic.publish.end", after=True))
    assert kinds(publisher.publish_all([message(0)])) == ["PublishUnconfirmed"]
    assert fault.fired.is_set()
    assert held(deployment, 1, channel) == ["m0"]
    broker.heal()
    assert kinds(publisher.publish_all([message(1)])) == ["confirmed"]


def test_what_was_stalled_arrives_when_healed(
    publisher: Publisher, broker: Proxy, deployment: Deployment, channel: Any
) -> None:
    fault = broker.when(Fault(Effect.STALL_TO_SERVER, "basic.publish.end"))
    assert kinds(publisher.publish_all([message(0)])) == ["PublishUnconfirmed"]
    assert fault.fired.is_set()
    assert channel.basic_get(QUEUE)[0] is None
    broker.heal()
    assert held(deployment, 1, channel) == ["m0"]  # the late message of an unknown outcome


def test_a_proxy_that_refuses_lets_nobody_in_until_healed(publisher: Publisher, broker: Proxy) -> None:
    assert kinds(publisher.publish_all([message(0)])) == ["confirmed"]
    broker.refuse()
    with pytest.raises(BrokerUnreachable):
        publisher.publish(message(1))
    assert broker.refused() == 1
    broker.heal()
    publisher.publish(message(2))


@pytest.mark.parametrize(
    ("fault", "rows"),
    [
        (Fault(Effect.RESET, "COMMIT"), 0),
        (Fault(Effect.RESET, "complete COMMIT", Direction.TO_CLIENT), 1),
        (Fault(Effect.DEAF_SERVER, "COMMIT"), 0),
    ],
    ids=["before", "answer", "deaf"],
)
def test_a_commit_is_cut_off_before_the_server_has_it_or_after_it_is_done(
    database: Proxy, deployment: Deployment, fault: Fault, rows: int
) -> None:
    with closing(connected(deployment)) as other, other, other.cursor() as cursor:
        cursor.execute("CREATE TABLE noted (number integer)")
    with closing(connected(deployment, database.port)) as connection:
        database.when(fault)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO noted VALUES (1)")
        if fault.effect is Effect.DEAF_SERVER:
            cut_off_while_committing(database, fault, connection)
        else:
            with pytest.raises(psycopg2.OperationalError):
                connection.commit()
    assert fault.fired.is_set()
    with closing(connected(deployment)) as other, other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM noted")
        assert cursor.fetchone() == (rows,)


def cut_off_while_committing(database: Proxy, fault: Fault, connection: Any) -> None:
    """Commit with nobody to hear it, until the proxy is healed by a reset."""
    failed: list[BaseException] = []

    def commit() -> None:
        try:
            connection.commit()
        except psycopg2.OperationalError as error:
            failed.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    assert fault.fired.wait(10)
    database.heal()
    thread.join(10)
    assert failed


def test_a_service_that_is_not_there_ends_the_connection() -> None:
    with Proxy("postgres", "127.0.0.1", 1) as proxy, pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(host="127.0.0.1", port=proxy.port, user="x", dbname="x")


def test_frames_are_found_however_the_bytes_are_cut() -> None:
    method = b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x28\xce"
    header = b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00" + (3).to_bytes(8, "big") + b"\x00\x00\xce"
    body = b"\x03\x00\x01\x00\x00\x00\x03abc\xce"
    stream = b"AMQP\x00\x00\x09\x01" + method + header + body + b"\x08\x00\x00\x00\x00\x00\x00\xce"
    names = ["protocol", "basic.publish", "header", "basic.publish.end", "heartbeat"]
    for size in (1, 5, len(stream)):
        frames = AmqpFrames()
        units = [unit for at in range(0, len(stream), size) for unit in frames.feed(stream[at : at + size])]
        assert [unit.name for unit in units] == names
        assert b"".join(unit.data for unit in units) == stream


def test_messages_are_found_however_the_bytes_are_cut() -> None:
    startup = (9).to_bytes(4, "big") + (196608).to_bytes(4, "big") + b"\0"
    said = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big") + startup + b"Q\0\0\0\x0bcommit\0"
    answered = b"N" + b"R\0\0\0\x08\0\0\0\0" + b"C\0\0\0\x0bCOMMIT\0" + b"Z\0\0\0\x05I"
    for sender, stream, names in (
        (Sender.CLIENT, said, ["ssl request", "startup", "COMMIT"]),
        (Sender.SERVER, answered, ["encryption answer", "authentication", "complete COMMIT", "ready"]),
    ):
        for size in (1, 3, len(stream)):
            messages = PostgresMessages(sender)
            units = [
                unit for at in range(0, len(stream), size) for unit in messages.feed(stream[at : at + size])
            ]
            assert [unit.name for unit in units] == names
            assert b"".join(unit.data for unit in units) == stream


def test_an_unconfirmed_publish_is_not_taken_for_the_confirm_of_the_next(
    publisher: Publisher, broker: Proxy, deployment: Deployment, channel: Any
) -> None:
    broker.when(Fault(Effect.STALL_TO_CLIENT, "basic.ack", Direction.TO_CLIENT))
    with pytest.raises(PublishUnconfirmed):
        publisher.publish(message(0))
    broker.when(Fault(Effect.RESET, "basic.publish"))
    broker.heal()  # the late ack is there for whoever would take it for his own
    with pytest.raises(PublishUnconfirmed):
        publisher.publish(message(1))
    assert held(deployment, 1, channel) == ["m0"]
    wait_until(lambda: channel.basic_get(QUEUE)[0] is None, "nothing else")
