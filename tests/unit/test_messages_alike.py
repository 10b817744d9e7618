"""What is written over another message is what Celery would have made, byte for byte; or it is refused alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reliable_tasks.model.envelope import ENQUEUED_AT, Message
from reliable_tasks.settings import load_settings
from reliable_tasks.worker.messages_alike import Alike
from reliable_tasks.worker.publishing import redirect
from tests.integration.publishing.application import application

BASE = {"RELIABLE_TASKS_BROKER_URL": "amqp://nobody:x@127.0.0.1:9/", "RELIABLE_TASKS_MAX_BODY_BYTES": "3000"}
KEYS = {"RELIABLE_TASKS_SIGNING_KEYS": "2026-a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="}
DATABASE = {"RELIABLE_TASKS_DATABASE_URL": "postgresql+psycopg2://nobody@127.0.0.1:9/none"}
ID = "01a20f86-6817-71b6-bdf6-233d6e7e4f57"

texts = st.text(max_size=400) | st.text("'\"\\ab\x00\x1f\ud800…", max_size=20)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.binary(max_size=20),
    st.decimals(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(params=[{}, KEYS], ids=["unsigned", "signed"], scope="module")
def app(request: pytest.FixtureRequest) -> Any:
    return application(load_settings({**BASE, **DATABASE, **request.param}))


def made_by_celery(task: Any, args: Any, kwargs: Any, task_id: str = ID) -> tuple[Message, Any]:
    sent: list[Message] = []
    with redirect(sent.append):
        result = task.apply_async(args, kwargs, task_id=task_id)
    (message,) = sent
    return message, result


FIRST = {"note": ((0, "x"), {}), "pay": (("x", "1.10"), {}), "plain": ((), {})}


def alike(app: Any, name: str) -> Alike:
    task = app.tasks[name]
    args, kwargs = FIRST[name]
    first, result = made_by_celery(task, args, kwargs, "another")
    found = Alike(task, first, result)
    assert found.is_right(args, kwargs)
    return found


@contextmanager
def noting(outcome: list[Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        outcome += [type(error), str(error)]


def both(app: Any, name: str, args: Any, kwargs: Any) -> tuple[list[Any], list[Any]]:
    theirs: list[Any] = []
    ours: list[Any] = []
    sent_at = datetime.now(UTC)
    with noting(theirs):
        theirs.append(made_by_celery(app.tasks[name], args, kwargs)[0])
        sent_at = datetime.fromisoformat(theirs[0].headers[ENQUEUED_AT])
    with noting(ours):
        ours.append(alike(app, name).message(args, kwargs, ID, sent_at))
    return theirs, ours


@given(args=st.lists(values, max_size=4), kwargs=st.dictionaries(texts, values, max_size=3))
@example(args=["x" * 1020], kwargs={})
@example(args=["x" * 1019, 1], kwargs={})
@example(args=[1] * 400, kwargs={})
@example(args=["'" * 900], kwargs={})
@example(args=["y" * 3000], kwargs={})
@example(args=[float("nan")], kwargs={})
@example(args=[date(2026, 1, 1)], kwargs={"a": True})
def test_a_message_is_what_celery_would_have_made(app: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    theirs, ours = both(app, "plain", args, kwargs)
    assert ours == theirs
    if isinstance(ours[0], Message):
        assert list(ours[0].headers) == list(theirs[0].headers)


@given(number=st.integers() | texts, text=values, extra=st.lists(scalars, max_size=1), named=st.booleans())
def test_arguments_of_an_idempotent_task_are_checked_alike(
    app: Any, number: Any, text: Any, extra: list[Any], named: bool
) -> None:
    args, kwargs = ([number, *extra], {"text": text}) if named else ([number, text, *extra], {})
    theirs, ours = both(app, "note", args, kwargs)
    assert ours == theirs


@pytest.mark.parametrize(
    "args", [("o", "12.30"), ("o", 12.5), ("", "1"), ("o",), ("o" * 501, "1"), (None, "1")]
)
def test_so_are_limits_and_money(app: Any, args: tuple[Any, ...]) -> None:
    theirs, ours = both(app, "pay", args, {})
    assert ours == theirs


def test_a_result_is_what_celery_would_have_made(app: Any) -> None:
    task = app.tasks["plain"]
    _, theirs = made_by_celery(task, (1,), {})
    ours, message = alike(app, "plain").made((1,), {}, ID)
    assert (ours, ours.ignored, type(ours), ours.backend) == (theirs, True, type(theirs), theirs.backend)
    assert message.task_id == ID


def test_what_differs_from_the_first_in_any_way_is_not_taken_for_right(app: Any) -> None:
    task = app.tasks["plain"]
    later: list[Message] = []
    with redirect(later.append):
        result = task.apply_async((1,), countdown=5)
    assert not Alike(task, later[0], result).is_right((1,), {})
    first, result = made_by_celery(task, (1,), {})
    assert not Alike(task, first, result).is_right((2,), {})
    assert not Alike(task, first.with_headers(shadow="x"), result).is_right((2,), {})
