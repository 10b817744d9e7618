"""Canvas, results and groups on a real worker."""

from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult, GroupResult

from reliable_tasks.operate.dead_letters import Known, Operator, replay
from tests.waiting import wait_until

SECONDS = 20


def test_a_result_comes_back(tasks: Any) -> None:
    sent = tasks.add.delay(2, 3)
    assert AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS) == 5
    assert sent.state == "SUCCESS"
    assert sent.successful()


def test_an_exception_comes_back(tasks: Any) -> None:
    sent = tasks.fail.delay("so be it")
    with pytest.raises(ValueError, match="so be it"):
        sent.get(timeout=SECONDS)
    assert sent.state == "FAILURE"
    assert "so be it" in sent.traceback


def test_a_chain_hands_on(tasks: Any) -> None:
    assert chain(tasks.add.s(1, 2), tasks.add.s(10), tasks.add.s(100)).delay().get(timeout=SECONDS) == 113


def test_a_failed_chain_ends_with_its_error(tasks: Any, marks: Any, unique: str) -> None:
    sent = chain(tasks.fail.s("first"), tasks.leave.si(unique)).delay()
    with pytest.raises(ValueError, match="first"):
        sent.get(timeout=SECONDS)
    assert not marks.count(unique)


def test_a_group_runs_all(tasks: Any) -> None:
    assert group(tasks.add.s(i, i) for i in range(6)).delay().get(timeout=SECONDS) == [0, 2, 4, 6, 8, 10]


def test_a_chord_runs_its_body_after_all(tasks: Any) -> None:
    assert chord((tasks.add.s(i, 1) for i in range(4)), tasks.total.s()).delay().get(timeout=SECONDS) == 10


def test_a_chord_with_a_failed_part_fails(tasks: Any) -> None:
    sent = chord([tasks.add.s(1, 1), tasks.fail.s("part")], tasks.total.s()).delay()
    # Celery raises the part's own error, when it sees it first
    with pytest.raises((ChordError, ValueError), match="part"):
        sent.get(timeout=SECONDS)
    wait_until(lambda: sent.state == "FAILURE", "the body's failure")
    with pytest.raises(ChordError, match="part"):
        AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS)


def test_a_chain_into_a_chord(tasks: Any) -> None:
    canvas = tasks.add.s(1, 1) | group(tasks.add.s(1), tasks.add.s(2)) | tasks.total.s() | tasks.add.s(100)
    assert canvas.delay().get(timeout=SECONDS) == 107


def test_chunks_and_map(tasks: Any) -> None:
    assert tasks.add.starmap([(1, 2), (3, 4)]).delay().get(timeout=SECONDS) == [3, 7]
    assert tasks.add.chunks([(1, 2), (3, 4)], 1).apply_async().get(timeout=SECONDS) == [[3], [7]]


def test_a_group_result_is_saved_and_restored(tasks: Any) -> None:
    sent = group(tasks.add.s(i, 1) for i in range(3)).delay()
    sent.save()
    restored = GroupResult.restore(sent.id, app=tasks.app)
    assert restored.join(timeout=SECONDS) == [1, 2, 3]
    restored.delete()
    assert GroupResult.restore(sent.id, app=tasks.app) is None


def test_link_is_called_with_the_result(tasks: Any, marks: Any, unique: str) -> None:
    tasks.echo.apply_async((unique,), link=tasks.leave.s())
    wait_until(lambda: marks.count(unique) == 1, "the linked task")


def test_link_error_hears_of_the_failure(tasks: Any, marks: Any, unique: str) -> None:
    tasks.fail.apply_async(("heard",), link_error=tasks.heard.s(unique))
    wait_until(lambda: marks.count(unique) == 1, "the errback")


def test_link_error_of_an_idempotent_task(tasks: Any, marks: Any, unique: str) -> None:
    tasks.refuse.apply_async((unique,), link_error=tasks.heard.s(f"{unique}-heard"))
    wait_until(lambda: marks.count(f"{unique}-heard") == 1, "the errback")


def test_a_chain_of_idempotent_tasks(tasks: Any, database: Any, unique: str) -> None:
    sent = chain(tasks.pay.si(unique + "a"), tasks.pay.si(unique + "b")).delay()
    assert sent.get(timeout=SECONDS)["order"] == unique + "b"
    assert (database.effects(unique + "a"), database.effects(unique + "b")) == (1, 1)


def test_a_chain_goes_on_after_a_replay(tasks: Any, database: Any, marks: Any, unique: str) -> None:
    sent = chain(tasks.fail_until.si(unique), tasks.leave.s(), tasks.echo.s()).delay()
    with pytest.raises(ValueError, match="not good yet"):
        sent.get(timeout=SECONDS)
    marks.leave(f"{unique}-good")
    letter = database.dead_letter(sent.parent.parent.id)
    replays = replay(
        tasks.app.runtime.engine, [letter["id"]], Operator("a test"), Known(queue=lambda name: True)
    )
    assert [done.outcome for done in replays] == ["replayed"]
    wait_until(lambda: database.state(sent.id) == "succeeded", "the end of the chain")
    assert marks.count(unique) == 1
