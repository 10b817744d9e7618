"""A result is Celery's in all that it has; what `then` needs is there once somebody asks."""

from typing import Any

import pytest
from celery import states
from celery.result import AsyncResult

from reliable_tasks.settings import load_settings
from tests.integration.publishing.application import application

BASE = {
    "RELIABLE_TASKS_BROKER_URL": "amqp://nobody:x@127.0.0.1:9/",
    "RELIABLE_TASKS_DATABASE_URL": "postgresql+psycopg2://nobody@127.0.0.1:9/none",
}


@pytest.fixture(scope="module")
def app() -> Any:
    return application(load_settings(BASE))


def test_it_has_what_celerys_has(app: Any) -> None:
    ours, theirs = app.AsyncResult("some-id", parent=None), AsyncResult("some-id", app=app)
    assert isinstance(ours, AsyncResult)
    assert (ours, repr(ours), ours.__reduce_args__()) == (theirs, repr(theirs), theirs.__reduce_args__())
    assert vars(ours).items() <= vars(theirs).items()
    assert vars(theirs).keys() - vars(ours).keys() == {"on_ready"}
    with pytest.raises(ValueError, match="valid id"):
        app.AsyncResult(None)


def test_all_who_wait_are_called_once_when_it_is_ready(app: Any) -> None:
    result, called = app.AsyncResult("some-id"), list[str]()
    assert result.on_ready is result.on_ready
    for name in ("one", "two"):
        result.on_ready.then(lambda found, name=name: called.append(f"{name} {found.id}"))
    result._maybe_set_cache({"status": states.SUCCESS, "result": 1})
    result._maybe_set_cache({"status": states.SUCCESS, "result": 1})
    assert called == ["one some-id", "two some-id"]
