"""The collector and its source when the database goes away between taking and recording."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pika
import pytest
from sqlalchemy import text

from reliable_tasks.broker.dead_letter_source import DeadLetterSource
from reliable_tasks.services.collector import Collector
from reliable_tasks.store.engine import begin, create_engine
from tests.waiting import wait_until

QUEUE = "dead"


@pytest.fixture
def engine(fresh_database: str) -> Iterator[Any]:
    engine = create_engine(fresh_database)
    yield engine
    engine.dispose()


@pytest.fixture
def collector(engine: Any, fresh_vhost: str, channel: Any) -> Iterator[Collector]:
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    source = DeadLetterSource(fresh_vhost, [QUEUE])
    with closing(Collector(engine, source, {"pay"}.__contains__, lambda name: (name, None))) as collector:
        yield collector


def send(channel: Any, task_id: str, **properties: Any) -> None:
    headers = {"id": task_id, "task": "pay", **properties.pop("headers", {})}
    channel.basic_publish(
        "", QUEUE, b"[]", pika.BasicProperties(headers=headers, **properties), mandatory=True
    )


STRANGE: list[dict[str, Any]] = [
    {"correlation_id": "a\x00b", "reply_to": "\x00"},
    {"headers": {"id": "".join(map(chr, range(0x4E00, 0x9000)))}},
    {"headers": {"rt-replay": 2**40}},
    {"headers": {"task": 5, "id": [1, {"a": None}]}},
    {"headers": {"task": "x" * 5000}},
]


@pytest.mark.parametrize("strange", STRANGE, ids=["nul", "long-id", "huge", "types", "long-name"])
def test_a_strange_message_holds_up_no_other(
    engine: Any, collector: Collector, channel: Any, strange: dict[str, Any]
) -> None:
    send(channel, "a")
    send(channel, "strange", **strange)
    send(channel, "z")
    wait_until(lambda: (collector.run_once(), len(kept(engine)))[1] == 3, "all three", 10)
    assert {"a", "z"} < set(kept(engine))
    assert collector.run_once() == 0


def until_taken(collector: Collector) -> None:
    """Collect until something was there; whatever that raises is raised."""
    deadline = time.monotonic() + 10
    while not collector.run_once() and time.monotonic() < deadline:
        pass


def kept(engine: Any) -> list[str]:
    with begin(engine) as connection:
        query = text("SELECT task_id FROM reliable_tasks.dead_letters ORDER BY task_id")
        return list(connection.execute(query).scalars())


def test_what_could_not_be_recorded_is_not_acked_with_the_next_batch(
    engine: Any, collector: Collector, channel: Any
) -> None:
    send(channel, "first")
    with begin(engine) as connection:
        connection.execute(text("ALTER TABLE reliable_tasks.dead_letters RENAME TO away"))
    with pytest.raises(Exception, match="lacks our schema"):
        until_taken(collector)
    with begin(engine) as connection:
        connection.execute(text("ALTER TABLE reliable_tasks.away RENAME TO dead_letters"))
    send(channel, "second")
    wait_until(lambda: collector.run_once() == 0 and len(kept(engine)) == 2, "both dead letters", 10)
