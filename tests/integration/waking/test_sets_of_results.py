"""A group is waited for as a set: one question for hundreds, and never all of a large one at once."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery
from celery.exceptions import TimeoutError
from celery.result import GroupResult, ResultSet

from reliable_tasks import ReliableCelery
from reliable_tasks.settings import Settings
from reliable_tasks.store.identity import new_id
from reliable_tasks.worker import waiting
from tests.integration.applied_topology import TOPOLOGY
from tests.integration.waking.conftest import NEVER, Ends, Questions, Waits
from tests.waiting import wait_until


@pytest.fixture
def app(settings: Settings, waits: Waits, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An application of ours, on the connections of who waits."""
    # an application tells Celery where its services are
    monkeypatch.setattr(os, "environ", dict(os.environ))
    app = ReliableCelery("joins", topology=TOPOLOGY, settings=settings, set_as_current=False)
    app.runtime.engine = waits.engine
    return app


def ids(task_id: str, count: int) -> list[str]:
    """Some made by us, some by others."""
    return [f"{task_id}-{number}" if number % 2 else str(new_id()) for number in range(count)]


def group_of(app: Celery, names: list[str]) -> GroupResult:
    return app.GroupResult("group", [app.AsyncResult(name) for name in names])


def test_a_group_is_asked_for_as_a_set(app: Celery, ends: Ends, questions: Questions, task_id: str) -> None:
    names = ids(task_id, 600)
    ends.succeed(*names, value=7)
    for join in (group_of(app, names).join, group_of(app, names).get):
        questions.asked.clear()
        assert join(timeout=60) == [7] * 600
        assert len(questions.asked) <= 4, "two for each part, one of which is of ids of our own"


def test_the_last_of_a_group_calls_who_waits_for_it(
    app: Celery, ends: Ends, threads: ThreadPoolExecutor, questions: Questions, waits: Waits, task_id: str
) -> None:
    names = ids(task_id, 300)
    joined = threads.submit(group_of(app, names).get, timeout=60, interval=NEVER)
    wait_until(lambda: waits.listener.hears, "the listener hears")
    wait_until(lambda: len(questions.asked) >= 2, "it has looked")
    for start in range(0, 300, 10):
        ends.succeed(*names[start : start + 10], value=start)
    assert joined.result(60) == [start for start in range(0, 300, 10) for _ in range(10)]
    assert len(questions.asked) < 30, "not once for each that ends"


def test_a_large_group_is_not_in_memory_at_once(
    app: Celery, ends: Ends, monkeypatch: pytest.MonkeyPatch, task_id: str
) -> None:
    monkeypatch.setattr(waiting, "MOST_AT_ONCE", 10)
    names = ids(task_id, 95)
    ends.succeed(*names, value="x")
    rows: list[int] = []
    looked = waiting.ended_now
    monkeypatch.setattr(waiting, "ended_now", lambda *given: _counted(rows, looked(*given)))
    assert group_of(app, names).get(timeout=60) == ["x"] * 95
    assert sum(rows) == 95
    assert max(rows) == 10


def _counted(rows: list[int], found: list[dict[str, object]]) -> list[dict[str, object]]:
    rows.append(len(found))
    return found


def test_a_failure_is_raised_before_the_others_have_ended(app: Celery, ends: Ends, task_id: str) -> None:
    names = ids(task_id, 5)
    ends.fail(names[3], "part")
    with pytest.raises(ValueError, match="part"):
        group_of(app, names).join(timeout=60)
    for name in names:
        if name != names[3]:
            ends.succeed(name, value=name)
    told = group_of(app, names).join(timeout=60, propagate=False)
    assert isinstance(told[3], ValueError)
    assert told[:3] == names[:3]


def test_a_group_that_is_not_done_times_out(app: Celery, ends: Ends, task_id: str) -> None:
    names = ids(task_id, 5)
    ends.succeed(*names[1:])
    with pytest.raises(TimeoutError):
        group_of(app, names).get(timeout=0.1)


def test_what_a_set_says_of_its_members(app: Celery, ends: Ends, questions: Questions, task_id: str) -> None:
    names = ids(task_id, 40)
    group = group_of(app, names)
    assert (group.ready(), group.successful(), group.failed(), group.completed_count()) == (False,) * 3 + (0,)
    ends.succeed(*names[1:])
    questions.asked.clear()
    assert (group.ready(), group.waiting(), group.completed_count()) == (False, True, 39)
    assert len(questions.asked) <= 6
    ends.fail(names[0], "part")
    assert (group.ready(), group.successful(), group.failed(), group.completed_count()) == (
        True,
        False,
        True,
        39,
    )
    assert ResultSet([app.AsyncResult(names[1])], app=app).successful()


def test_groups_within_groups(app: Celery, ends: Ends, questions: Questions, task_id: str) -> None:
    names = ids(task_id, 30)
    inner = app.GroupResult("inner", [app.AsyncResult(name) for name in names[10:]])
    group = app.GroupResult("outer", [*(app.AsyncResult(name) for name in names[:10]), inner])
    ends.succeed(*names, value=1)
    assert group.get(timeout=60) == [1] * 10 + [[1] * 20]
    assert len(questions.asked) <= 2


def test_results_by_callback(app: Celery, ends: Ends, task_id: str) -> None:
    names = ids(task_id, 8)
    ends.succeed(*names, value=3)
    told: dict[str, int] = {}
    assert group_of(app, names).join(timeout=60, callback=told.__setitem__) == []
    assert told == dict.fromkeys(names, 3)


def test_an_empty_group_has_no_results(app: Celery) -> None:
    assert group_of(app, []).get(timeout=1) == []


def test_an_application_that_only_uses_our_backend_joins_as_a_set(
    waits: Waits, ends: Ends, questions: Questions, task_id: str
) -> None:
    names = ids(task_id, 200)
    ends.succeed(*names, value=2)
    questions.asked.clear()
    assert group_of(waits.app, names).get(timeout=60) == [2] * 200
    assert len(questions.asked) <= 2
