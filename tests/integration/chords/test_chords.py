"""The body of a chord is sent once, by the commit that ends the last part; nobody asks in between."""

from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult

from reliable_tasks import PermanentError
from reliable_tasks.operate.dead_letters import Known, Operator, replay
from reliable_tasks.operate.tasks import cancel
from reliable_tasks.store.engine import begin
from tests.deployment import Deployment
from tests.integration.chords.conftest import Sent
from tests.waiting import wait_until

SECONDS = 60


def test_the_body_gets_all_results_in_order_and_is_sent_once(tasks: Any, database: Sent, unique: str) -> None:
    sent = chord((tasks.part.s(unique, number) for number in range(20)), tasks.gather.s(unique)).delay()
    assert sent.get(timeout=SECONDS) == list(range(20))
    assert database.sent(sent.id) == 1
    row = database.rows("SELECT * FROM reliable_tasks.chords WHERE group_id = :id", id=sent.parent.id)[0]
    assert (row["state"], row["size"], row["ended"], row["failed"]) == ("sent", 20, 20, 0)
    left = "SELECT count(*) FROM reliable_tasks.chord_parts WHERE group_id = :id"
    assert database.one(left, id=sent.parent.id) == 0


@pytest.mark.parametrize(
    ("canvas", "expected"),
    [
        (lambda t: chord([t.echo.s(5)], t.total.s()), 5),
        (lambda t: chord([], t.total.s()), 0),
        (lambda t: chord([chord([t.echo.s(1), t.echo.s(2)], t.total.s()), t.echo.s(10)], t.total.s()), 13),
        (lambda t: chord([t.echo.s(1), t.echo.s(2)], chord([t.total.s(), t.total.s()], t.total.s())), 6),
        (lambda t: chord([chain(t.echo.s(1), t.add.s(2)), t.echo.s(4)], t.total.s()), 7),
        (lambda t: chord([chain(t.echo.s(1), group(t.add.s(2), t.add.s(3))), t.echo.s(9)], t.echo.s()), [[3, 4], 9]),
        (lambda t: chord([group(t.echo.s(1), t.echo.s(2)), t.echo.s(3)], t.total.s()), 6),
        (lambda t: chord(t.add.chunks([(1, 2), (3, 4), (5, 6)], 2).group(), t.echo.s()), [[3, 7], [11]]),
        (lambda t: chord([t.echo.s(1), t.echo.s(2)], chain(t.total.s(), t.add.s(100))), 103),
        (lambda t: chord([t.quiet.s(), t.echo.s(1)], t.echo.s()), [None, 1]),
        (lambda t: group(t.echo.s(1), t.echo.s(2)) | t.total.s() | group(t.add.s(1), t.add.s(2)) | t.total.s(), 9),
    ],
    ids=[
        "one", "none", "within the header", "as the body", "chain in the header", "chain into a group in the header",
        "group in the header", "chunks", "chain as the body", "a part without a result", "chords one after the other",
    ],
)  # fmt: skip
def test_every_kind_of_chord(tasks: Any, canvas: Any, expected: Any) -> None:
    assert canvas(tasks).delay().get(timeout=SECONDS) == expected


def test_a_group_as_the_body(tasks: Any) -> None:
    sent = chord([tasks.echo.s(1), tasks.echo.s(2)], group(tasks.total.s(), tasks.echo.s())).delay()
    assert sent.get(timeout=SECONDS) == [3, [1, 2]]


def test_a_failed_part_fails_the_body_and_calls_its_errbacks_once(
    tasks: Any, database: Sent, marks: Any, unique: str
) -> None:
    body = tasks.gather.s(unique).on_error(tasks.heard.s(f"{unique}-heard"))
    sent = chord([tasks.echo.s(1), tasks.refused.s(unique), tasks.echo.s(2)], body).delay()
    with pytest.raises(ChordError, match=r"no funds"):
        AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS)
    wait_until(lambda: marks(f"{unique}-heard") == 1, "the errback")
    assert (marks(unique), database.sent(sent.id)) == (0, 0)


def test_a_failed_part_fails_every_task_of_a_body_that_is_a_group(tasks: Any, unique: str) -> None:
    body = group(tasks.gather.s(unique), tasks.gather.s(unique))
    sent = chord([tasks.echo.s(1), tasks.refused.s(unique)], body).delay()
    for member in sent.results:
        with pytest.raises(ChordError, match="no funds"):
            AsyncResult(member.id, app=tasks.app).get(timeout=SECONDS)


def test_a_failed_part_fails_the_chords_around_it(tasks: Any, unique: str) -> None:
    inner = chord([tasks.refused.s(unique), tasks.echo.s(1)], tasks.total.s())
    sent = chord([inner, tasks.echo.s(2)], tasks.gather.s(unique)).delay()
    with pytest.raises(ChordError, match="no funds"):
        AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS)


def test_a_part_that_ends_in_a_failed_chain_fails_the_body(tasks: Any, unique: str) -> None:
    parts = [chain(tasks.refused.s(unique), tasks.echo.s(), tasks.echo.s()), tasks.echo.s(1)]
    sent = chord(parts, tasks.gather.s(unique)).delay()
    with pytest.raises(ChordError, match="no funds"):
        AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS)


def test_a_replayed_part_lets_the_body_run(
    tasks: Any, database: Sent, around: Deployment, marks: Any, unique: str
) -> None:
    parts = [tasks.fail_until.s(unique).set(task_id=f"{unique}-part"), tasks.echo.s(1)]
    sent = chord(parts, tasks.gather.s(unique)).delay()
    with pytest.raises(ChordError, match="not good yet"):
        AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS)
    for good in (False, True):
        if good:
            (around.place / f"{unique}-good").touch()
        open_letter = "SELECT id FROM reliable_tasks.dead_letters WHERE task_id = :id AND state = 'open'"
        letter = wait_until(lambda: database.one(open_letter, id=f"{unique}-part"), "its dead letter")  # noqa: B023
        known = Known(queue=lambda _name: True)
        (done,) = replay(tasks.app.runtime.engine, [letter], Operator("a test"), known)
        assert done.outcome == "replayed"
        assert database.chord_of(f"{unique}-part")["state"] == "waiting"
        state = "SELECT state FROM reliable_tasks.chords WHERE group_id = :id"
        database.wait_for(state, "sent" if good else "failed", id=sent.parent.id)
    database.until(sent.id, "succeeded")
    assert AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS) == [unique, 1]
    assert (marks(unique), database.sent(sent.id)) == (1, 1)


def test_a_cancelled_part_fails_the_body(tasks: Any, database: Sent, unique: str) -> None:
    parts = [tasks.echo.s(1).set(countdown=3600, task_id=f"{unique}-late"), tasks.echo.s(2)]
    sent = chord(parts, tasks.gather.s(unique)).delay()
    wait_until(lambda: database.chord_of(f"{unique}-late")["ended"] == 1, "the other part has ended")
    (done,) = cancel(tasks.app.runtime.engine, [f"{unique}-late"], "a test")
    assert done.outcome == "cancelled"
    with pytest.raises(ChordError, match="late"):
        AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS)


def test_a_body_that_cannot_be_sent_fails(tasks: Any, unique: str) -> None:
    sent = chord([tasks.echo.s("x" * 600_000), tasks.echo.s("y" * 600_000)], tasks.gather.s(unique)).delay()
    with pytest.raises(ChordError, match="MessageTooLarge"):
        AsyncResult(sent.id, app=tasks.app).get(timeout=SECONDS)


def test_a_task_sends_a_chord_with_its_own_commit(
    tasks: Any, database: Sent, marks: Any, unique: str
) -> None:
    body = tasks.spread.delay(unique, 5).get(timeout=SECONDS)
    assert AsyncResult(body, app=tasks.app).get(timeout=SECONDS) == 10
    assert (marks(unique), database.sent(body)) == (1, 1)


def test_a_chord_of_a_task_that_fails_leaves_nothing(tasks: Any, database: Sent, unique: str) -> None:
    count = "SELECT count(*) FROM reliable_tasks.chords"
    before = database.one(count)
    sent = tasks.spread_and_fail.delay(unique)
    with pytest.raises(PermanentError, match="after all"):
        sent.get(timeout=SECONDS)
    assert database.one(count) == before


def test_a_chord_is_enqueued_with_the_callers_transaction(tasks: Any, database: Sent, unique: str) -> None:
    signature = chord([tasks.echo.s(1), tasks.echo.s(2)], tasks.total.s())
    with pytest.raises(ZeroDivisionError), begin(tasks.app.runtime.engine) as connection:
        _enqueue_and_fail(tasks, connection, signature)
    count = "SELECT count(*) FROM reliable_tasks.chords"
    before = database.one(count)
    with begin(tasks.app.runtime.engine) as connection:
        sent = tasks.app.enqueue(connection, signature)
    assert sent.get(timeout=SECONDS) == 3
    assert database.one(count) == before + 1


def _enqueue_and_fail(tasks: Any, connection: Any, signature: Any) -> None:
    tasks.app.enqueue(connection, signature)
    raise ZeroDivisionError


def test_nobody_has_asked_whether_a_chord_is_ready(tasks: Any, database: Sent) -> None:
    """Last in this file: of all the chords above."""
    unlock = "SELECT count(*) FROM {} WHERE {} = 'celery.chord_unlock'"
    assert database.one(unlock.format("reliable_tasks.results", "name")) == 0
    assert database.one(unlock.format("seen", "task_name")) == 0
