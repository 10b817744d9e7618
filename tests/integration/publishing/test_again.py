"""A task that is sent again is sent as Celery would send it now, whatever has changed since it was sent first."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

import pytest
from celery import signals
from celery._state import _task_stack

from reliable_tasks import ReliableCelery
from reliable_tasks.errors import ArgumentError, Unroutable
from reliable_tasks.model.envelope import ENQUEUED_AT, Message, without_history
from reliable_tasks.settings import Settings
from reliable_tasks.worker.publishing import redirect
from tests.integration.publishing.application import application

OWN_ID = "an-id-of-its-own"
Change = Callable[[ReliableCelery], AbstractContextManager[None]]


@pytest.fixture
def app(settings: Settings, applied_shape: None) -> Iterator[ReliableCelery]:
    """An application that has sent two messages of each task, the second of them over the first."""
    app = application(settings)
    with closing(app.runtime.publisher):
        for _ in range(2):
            app.tasks["plain"].apply_async((0,))
            app.tasks["note"].apply_async((0,))
        assert app.patterns.known["plain"].alike
        assert app.patterns.known["note"].alike
        yield app
    app.runtime.engine.dispose()


def by_celery(app: ReliableCelery, name: str, **options: Any) -> Message:
    """What Celery makes of it now."""
    sent: list[Message] = []
    with redirect(sent.append):
        app.tasks[name].apply_async((7, "x"), task_id=OWN_ID, **options)
    (message,) = sent
    return message


def last(channel: Any, queue: str) -> Any:
    """Headers, properties and body of a queue's last message."""
    found = None
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found = got
    assert found is not None
    _method, properties, body = found
    return properties, body


@contextmanager
def settings_changed(app: ReliableCelery, **settings: Any) -> Iterator[None]:
    app.conf.update(**settings)
    yield


@contextmanager
def attributes_changed(app: ReliableCelery, **attributes: Any) -> Iterator[None]:
    for name, value in attributes.items():
        setattr(app.tasks["plain"], name, value)
    yield


@contextmanager
def a_receiver(app: ReliableCelery) -> Iterator[None]:
    def stamp(headers: dict[str, Any], **_unused: Any) -> None:
        headers["stamp"] = "x"

    signals.before_task_publish.connect(stamp)
    try:
        yield
    finally:
        signals.before_task_publish.disconnect(stamp)


@contextmanager
def within_a_task(app: ReliableCelery) -> Iterator[None]:
    task = app.tasks["note"]
    task.push_request(id="the-parent", root_id="the-root", called_directly=False)
    _task_stack.push(task)
    try:
        yield
    finally:
        _task_stack.pop()
        task.pop_request()


CHANGES: dict[str, Change] = {
    "nothing": lambda _app: nullcontext(),
    "a route": lambda app: settings_changed(app, task_routes={"plain": {"queue": "notifications"}}),
    "the default queue": lambda app: settings_changed(app, task_default_queue="notifications"),
    "a limit": lambda app: attributes_changed(app, time_limit=7),
    "no result": lambda app: attributes_changed(app, ignore_result=False),
    "a receiver": a_receiver,
    "a task that runs": within_a_task,
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_message_is_what_celery_makes_now(app: ReliableCelery, channel: Any, change: str) -> None:
    with CHANGES[change](app):
        wanted = by_celery(app, "plain")
        queue = wanted.routing_key or wanted.queue
        result = app.tasks["plain"].apply_async((7, "x"), task_id=OWN_ID)
    properties, body = last(channel, queue)
    assert {**without_history(properties.headers), ENQUEUED_AT: ""} == {**wanted.headers, ENQUEUED_AT: ""}
    assert (result.id, properties.message_id, properties.correlation_id) == (OWN_ID, OWN_ID, OWN_ID)
    assert (properties.reply_to, body) == (wanted.properties["reply_to"], wanted.body)


def test_another_threads_replies_go_to_that_thread(app: ReliableCelery, channel: Any) -> None:
    wanted: list[Message] = []

    def send() -> None:
        for _ in range(2):
            app.tasks["plain"].apply_async((7, "x"))
        wanted.append(by_celery(app, "plain"))

    other = threading.Thread(target=send)
    other.start()
    other.join()
    properties, _body = last(channel, wanted[0].queue)
    assert properties.reply_to == wanted[0].properties["reply_to"]
    assert properties.reply_to != by_celery(app, "plain").properties["reply_to"]


def test_arguments_that_do_not_fit_are_refused_again(app: ReliableCelery) -> None:
    with pytest.raises((ArgumentError, TypeError)):
        app.tasks["note"].apply_async(("a", "b", "c"))
    with pytest.raises(ArgumentError, match="float"):
        app.tasks["pay"].apply_async(("o", 1.5))


def test_a_queue_that_is_gone_is_told_again(app: ReliableCelery, channel: Any) -> None:
    channel.queue_delete("notifications")
    with pytest.raises(Unroutable):
        app.tasks["note"].apply_async((1,))
