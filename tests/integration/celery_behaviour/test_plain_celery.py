"""The result backend of a plain Celery application."""

import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import chord, group
from celery.result import GroupResult

from tests.database import Database
from tests.deployment import Deployment

SECONDS = 20
PLAIN = "tests.integration.celery_behaviour.plain"


@pytest.fixture(scope="module")
def plain(reliable_stack: Any, around: Deployment) -> Iterator[Any]:
    variables = {
        "PLAIN_BROKER": around.broker_url,
        "PLAIN_BACKEND": around.database_url.replace("postgresql+psycopg2", "reliable+postgresql"),
    }
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        module = import_module(PLAIN)
        _ = module.app.backend
    finally:
        os.environ.clear()
        os.environ.update(before)
    with around.worker(PLAIN, "plain", "-c", "2", **variables):
        yield module
    module.app.close()


def test_results_and_failures(plain: Any, database: Database) -> None:
    good, bad = plain.double.delay(4), plain.fail.delay()
    assert good.get(timeout=SECONDS) == 8
    with pytest.raises(ValueError, match="plainly"):
        bad.get(timeout=SECONDS)
    row = database.result(good.id)
    assert (row["name"], row["args"], row["state"]) == (f"{PLAIN}.double", [4], "succeeded")
    assert row["started_at"] <= row["finished_at"]
    assert row["worker"].startswith("plain@")
    assert database.result(bad.id)["exception_type"] == "ValueError"


def test_groups_and_chords(plain: Any) -> None:
    sent = group(plain.double.s(i) for i in range(3)).delay()
    sent.save()
    assert GroupResult.restore(sent.id, app=plain.app).join(timeout=SECONDS) == [0, 2, 4]
    total = plain.app.signature("celery.map", kwargs={"task": plain.double.s(), "it": [1]}, immutable=True)
    assert chord([plain.double.s(1), plain.double.s(2)], total).delay().get(timeout=SECONDS) == [2]


def test_forget(plain: Any, database: Database) -> None:
    sent = plain.double.delay(1)
    sent.get(timeout=SECONDS)
    sent.forget()
    assert database.state(sent.id) is None


def test_the_password_is_not_shown(plain: Any) -> None:
    password = urlsplit(plain.app.backend.url).password
    assert password
    assert password not in plain.app.backend.as_uri()
    assert password not in repr(plain.app.backend)
