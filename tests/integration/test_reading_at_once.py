"""The worker's reader on a real connection: what is usual is taken, the rest is the library's, and nothing is lost."""

from collections.abc import Iterator
from typing import Any

import kombu
import pytest
from kombu.asynchronous import Hub

from reliable_tasks.broker.deliveries import Delivered
from reliable_tasks.worker.reading import read_at_once
from reliable_tasks.worker.receiving import receive_as_sent
from tests.waiting import wait_until

QUEUE = "read"
UNUSUAL = {"tables": {"in": {"each": "other"}}}


class Reader:
    """A consumer in an event loop of its own."""

    def __init__(self, connection: Any) -> None:
        self.taken: list[bytes] = []
        self.by_library: list[bytes] = []
        self.came: list[bytes] = []
        self.dry = 0
        self.refused: set[bytes] = set()
        self._hub = Hub()
        self._connection = connection
        receive_as_sent(connection)
        connection.transport.register_with_event_loop(connection.connection, self._hub)
        read_at_once(connection, self._hub, self._take, self._when_dry)
        self.channel = connection.default_channel
        self._turns = self._hub.create_loop()

    def consume(self) -> None:
        self.channel.basic_consume(QUEUE, callback=self._by_library)

    def until(self, count: int) -> None:
        """Turn the loop until so many messages are here."""

        def turned() -> bool:
            next(self._turns)
            return len(self.taken) + len(self.by_library) >= count

        wait_until(turned, f"{count} messages")

    def close(self) -> None:
        self._hub.close()

    def _take(self, wire: Any, delivery: Delivered) -> bool:
        if delivery.body in self.refused:
            return False
        wire.channels[delivery.number].delivered(delivery.delivery_tag)
        self.taken.append(delivery.body)
        self.came.append(delivery.body)
        return True

    def _by_library(self, message: Any) -> None:
        self.channel.message_to_python(message)
        body = bytes(message.body, "utf-8") if isinstance(message.body, str) else bytes(message.body)
        self.by_library.append(body)
        self.came.append(body)
        # asks the broker something, as a worker may, while more is waiting to be read
        self.channel.basic_qos(0, 500, False)

    def _when_dry(self) -> None:
        self.dry += 1


@pytest.fixture
def connection(fresh_vhost: str) -> Iterator[Any]:
    with kombu.Connection(fresh_vhost) as connection:
        connection.default_channel.queue_declare(QUEUE, durable=True, auto_delete=False)
        yield connection


@pytest.fixture
def reader(fresh_vhost: str, connection: Any) -> Iterator[Reader]:
    with kombu.Connection(fresh_vhost) as own:
        reader = Reader(own)
        yield reader
        reader.close()


def publish(connection: Any, *bodies: bytes, headers: Any = None) -> None:
    channel = connection.default_channel
    for body in bodies:
        message = channel.prepare_message(body, headers=headers or {"id": "1"}, content_type="text/plain")
        channel.basic_publish(message, exchange="", routing_key=QUEUE)


def waiting(connection: Any) -> int:
    declared = connection.default_channel.queue_declare(QUEUE, passive=True)
    return int(declared.message_count)


def test_what_is_usual_never_meets_the_library(connection: Any, reader: Reader) -> None:
    bodies = [b"%d" % number for number in range(300)]
    publish(connection, *bodies)
    reader.consume()
    reader.until(300)
    assert reader.taken == bodies
    assert reader.by_library == []
    assert reader.dry < 100


def test_what_is_unusual_comes_in_its_turn(connection: Any, reader: Reader) -> None:
    publish(connection, b"first")
    publish(connection, b"tables", headers=UNUSUAL)
    publish(connection, b"", b"x" * 300_000, b"y" * 100_000, b"refused", b"last")
    reader.refused.add(b"refused")
    reader.consume()
    reader.until(7)
    # whoever asks the broker something reads what comes before the answer
    assert reader.came == [b"first", b"tables", b"", b"x" * 300_000, b"y" * 100_000, b"refused", b"last"]
    assert {b"tables", b"", b"x" * 300_000, b"refused"} <= set(reader.by_library)
    assert b"first" in reader.taken


def test_many_are_acked_by_one_word_but_none_that_is_not_settled(
    fresh_vhost: str, connection: Any, reader: Reader
) -> None:
    publish(connection, *(b"%d" % number for number in range(10)))
    reader.refused.add(b"4")
    reader.consume()
    reader.until(10)
    reader.channel.ack_all([1, 2, 3, 9, 8])
    reader.channel.basic_reject(4, requeue=False)
    reader.channel.ack_all([10])
    # an answer from the broker: it has seen the acks, and refused none of them
    reader.channel.basic_qos(0, 500, False)
    reader.channel.connection.close()
    wait_until(lambda: waiting(connection) == 3, "what was not settled is back")
    left = [connection.default_channel.basic_get(QUEUE, no_ack=True).body for _ in range(3)]
    assert [str(one, "utf-8") if isinstance(one, bytes) else one for one in left] == ["4", "5", "6"]
