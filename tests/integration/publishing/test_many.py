"""Many signatures in one call: each does what sending it alone does, and each that is not taken is told and kept."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from celery import chain, group, signals
from celery.result import EagerResult, GroupResult
from sqlalchemy import text

from reliable_tasks import ReliableCelery
from reliable_tasks.errors import (
    ArgumentError,
    BrokerUnreachable,
    NotAllPublished,
    NotSent,
    PublishUnconfirmed,
    UnknownQueue,
    Unroutable,
)
from reliable_tasks.model.envelope import Message
from reliable_tasks.settings import Settings, load_settings
from reliable_tasks.settings.addresses import parse_broker
from reliable_tasks.store.engine import begin
from reliable_tasks.worker.publishing import redirect
from reliable_tasks.worker.unit import UnitOfWork, current_unit
from tests.chaos.faults import Direction, Effect, Fault
from tests.chaos.proxy import Proxy
from tests.integration.publishing.application import application


@pytest.fixture
def app(settings: Settings, applied_shape: None) -> Iterator[ReliableCelery]:
    app = application(settings)
    with closing(app.runtime.publisher):
        yield app
    app.runtime.engine.dispose()


@pytest.fixture
def broker(fresh_vhost: str) -> Iterator[Proxy]:
    address = parse_broker(fresh_vhost)
    with Proxy("amqp", address.host, address.port or 5672) as proxy:
        yield proxy


@pytest.fixture
def app_behind(
    broker: Proxy, settings: Settings, fresh_vhost: str, fresh_database: str, applied_shape: None
) -> Any:
    """An application whose connection to the broker goes through the proxy."""
    port = parse_broker(fresh_vhost).port
    url = fresh_vhost.replace(f":{port}/", f":{broker.port}/")
    app = application(load_settings({}, broker_url=url, database_url=fresh_database))
    with closing(app.runtime.publisher):
        yield app


@pytest.fixture
def taken(channel: Any) -> Callable[[str, int], list[Any]]:
    """The first so many messages of a queue, as ids and arguments; and that there are no more."""

    def take(queue: str, count: int) -> list[Any]:
        found = arrived(channel, queue, count)
        assert channel.basic_get(queue)[0] is None
        return found

    return take


def arrived(channel: Any, queue: str, count: int) -> list[Any]:
    """Ids and arguments of messages, until there are so many different ones and no more come."""
    found: list[Any] = []
    for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
        if method is not None:
            found.append((properties.message_id, json.loads(body)[0]))
        elif len({task_id for task_id, _ in found}) >= count:
            break
    channel.cancel()
    return found


def outbox(app: ReliableCelery) -> list[Any]:
    with begin(app.runtime.engine) as connection:
        return list(
            connection.execute(text("SELECT task_id FROM reliable_tasks.outbox ORDER BY id")).scalars()
        )


def note(app: ReliableCelery, number: int) -> Any:
    return app.tasks["note"].s(number, "x" * 50)


def test_all_are_taken_in_order_under_the_ids_of_their_results(app: ReliableCelery, taken: Any) -> None:
    results = app.publish_many(note(app, number) for number in range(2500))
    assert all(type(result) is type(app.tasks["note"].AsyncResult("x")) for result in results)
    assert taken("notifications", 2500) == [(result.id, [n, "x" * 50]) for n, result in enumerate(results)]


def test_what_is_unusual_means_what_it_means_alone(app: ReliableCelery, taken: Any) -> None:
    plain, pay = app.tasks["plain"], app.tasks["pay"]
    results = app.publish_many(
        [
            note(app, 1),
            note(app, 2).set(countdown=3600),
            note(app, 3).set(task_id="my-own"),
            plain.s(4).set(queue="notifications"),
            pay.s("order", Decimal("1.10")),
            group(note(app, 6), note(app, 7), note(app, 8).set(countdown=3600)),
            chain(note(app, 9), plain.si()),
            app.signature("note", (10,)),
        ]
    )
    first, late, own, elsewhere, paid, several, chained, by_name = results
    assert outbox(app) == [late.id, several.results[2].id]
    assert taken("notifications", 7) == [
        (first.id, [1, "x" * 50]),
        ("my-own", [3, "x" * 50]),
        (elsewhere.id, [4]),
        (several.results[0].id, [6, "x" * 50]),
        (several.results[1].id, [7, "x" * 50]),
        (chained.parent.id, [9, "x" * 50]),
        (by_name.id, [10]),
    ]
    assert own.id == "my-own"
    assert isinstance(several, GroupResult)
    assert [task_id for task_id, _ in taken("payments", 1)] == [paid.id]


def test_who_listens_to_what_is_sent_hears_of_each(app: ReliableCelery, taken: Any) -> None:
    heard: list[str] = []

    def listener(headers: Any, **_: Any) -> None:
        heard.append(headers["id"])

    signals.before_task_publish.connect(listener)
    try:
        results = app.publish_many(note(app, number) for number in range(5))
    finally:
        signals.before_task_publish.disconnect(listener)
    assert heard == [result.id for result in results]
    assert len(taken("notifications", 5)) == 5


def test_in_a_task_they_join_what_it_does_and_in_a_transaction_that(
    app: ReliableCelery, channel: Any
) -> None:
    unit, written = UnitOfWork(), list[Message]()
    token = current_unit.set(unit)
    try:
        results = app.publish_many(note(app, number) for number in range(3))
        with redirect(written.append):
            others = app.publish_many(note(app, number) for number in range(2))
    finally:
        current_unit.reset(token)
    assert [message.task_id for message in unit.messages] == [result.id for result in results]
    assert [message.task_id for message in written] == [result.id for result in others]
    assert channel.basic_get("notifications")[0] is None


def test_a_wrong_one_keeps_back_no_other(app: ReliableCelery, taken: Any) -> None:
    pay = app.tasks["pay"]
    with pytest.raises(NotAllPublished) as raised:
        app.publish_many(
            [note(app, 1), pay.s("o", 1.5), note(app, 2), note(app, 3).set(queue="gone"), note(app, 4)]
        )
    error = raised.value
    none = type(None)
    assert [type(outcome) for outcome in error.outcomes] == [none, ArgumentError, none, UnknownQueue, none]
    assert len(error.unsent) == 2
    ids = [result.id for result in error.results if result is not None]
    assert [task_id for task_id, _ in taken("notifications", 3)] == ids


def test_what_no_queue_takes_is_sent_again_alone_and_under_its_id(
    app: ReliableCelery, channel: Any, taken: Any
) -> None:
    channel.queue_unbind("payments", "commands", "payments")
    pay = app.tasks["pay"]
    with pytest.raises(NotAllPublished) as raised:
        app.publish_many([note(app, 1), pay.s("a", Decimal(1)), group(note(app, 2), pay.s("b", Decimal(1)))])
    error = raised.value
    assert [type(outcome) for outcome in error.outcomes] == [type(None), Unroutable, Unroutable]
    assert [body for _, body in taken("notifications", 2)] == [[1, "x" * 50], [2, "x" * 50]]
    channel.queue_bind("payments", "commands", "payments")
    again = app.publish_many(error.unsent)
    assert again == [error.results[1], error.results[2]]
    assert [task_id for task_id, _ in taken("payments", 2)] == [
        error.results[1].id,
        error.results[2].results[1].id,
    ]
    taken("notifications", 0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Effect.CLOSE, "basic.publish", nth=1200),
        Fault(Effect.RESET, "basic.ack", Direction.TO_CLIENT, nth=2),
        Fault(Effect.DEAF_CLIENT, "basic.publish.end", nth=1200, after=True),
    ],
    ids=["cut", "answers lost", "deaf"],
)
def test_after_a_doubt_what_is_sent_again_is_all_that_was_not_confirmed(
    app_behind: Any, broker: Proxy, taken: Any, channel: Any, fault: Fault
) -> None:
    app = app_behind
    app.runtime.publisher._deadline_seconds = 3.0
    armed = broker.when(fault)
    with pytest.raises(NotAllPublished) as raised:
        app.publish_many(note(app, number) for number in range(2500))
    assert armed.fired.is_set()
    error = raised.value
    kinds = Counter(type(outcome) for outcome in error.outcomes)
    assert kinds[PublishUnconfirmed] > 0
    assert kinds[NotSent] > 0
    assert kinds.total() == 2500
    broker.heal()
    assert app.publish_many(error.unsent) == [
        result for result, outcome in zip(error.results, error.outcomes, strict=True) if outcome is not None
    ]
    found = Counter(task_id for task_id, _ in arrived(channel, "notifications", 2500))
    for result, outcome in zip(error.results, error.outcomes, strict=True):
        # twice only what nobody could tell of: under one id, so that its key runs once
        assert found[result.id] == 1 or isinstance(outcome, PublishUnconfirmed)


def test_nothing_is_lost_while_there_is_no_broker(app_behind: Any, broker: Proxy, taken: Any) -> None:
    broker.refuse()
    with pytest.raises(NotAllPublished) as raised:
        app_behind.publish_many(
            [note(app_behind, 1), note(app_behind, 2).set(countdown=3600), note(app_behind, 3)]
        )
    error = raised.value
    assert [type(outcome) for outcome in error.outcomes] == [BrokerUnreachable, type(None), BrokerUnreachable]
    assert outbox(app_behind) == [error.results[1].id]
    broker.heal()
    again = app_behind.publish_many(error.unsent)
    assert [task_id for task_id, _ in taken("notifications", 2)] == [result.id for result in again]


def test_eager_tasks_run_here(app: ReliableCelery) -> None:
    app.conf.task_always_eager = True
    (result,) = app.publish_many([app.tasks["plain"].s(1)])
    assert isinstance(result, EagerResult)
    assert result.successful()
