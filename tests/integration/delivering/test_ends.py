"""One delivery at a time, in this process: what is committed when something fails behind the task's function."""

from typing import Any

import pytest

from reliable_tasks.store.identity import new_id
from tests.integration.delivering.one_delivery import deliver, rows, sent, states

pytestmark = pytest.mark.filterwarnings("ignore:Exception raised outside body")


def test_a_continuation_that_cannot_be_sent_undoes_the_effect(app: Any) -> None:
    callbacks = [
        app.signature("plain", args=["linked"], immutable=True),
        app.signature("next", queue="default"),
    ]
    errbacks = [app.signature("plain", args=["heard"], immutable=True)]
    # "paid" is no number
    assert deliver(app, "pay", "a", callbacks=callbacks, errbacks=errbacks) == "reject"
    assert states(app, "results") == ["dead"]
    assert states(app, "claims") == ["dead"]
    assert rows(app, "SELECT * FROM effects") == []
    assert sent(app) == ["plain['heard']"]
    (letter,) = rows(app, "SELECT * FROM reliable_tasks.dead_letters")
    assert "number" in letter["exception_message"]
    assert letter["reason"] == "permanent"


def test_a_result_that_cannot_be_stored_undoes_the_effect(app: Any) -> None:
    assert deliver(app, "pay", "a", "unstorable") == "reject"
    assert (states(app, "results"), states(app, "claims")) == (["dead"], ["dead"])
    assert rows(app, "SELECT * FROM effects") == []
    assert sent(app) == []


def test_a_duplicate_whose_continuation_cannot_be_sent_has_one_end(app: Any) -> None:
    assert deliver(app, "pay", "a") == "ack"
    assert deliver(app, "pay", "a", callbacks=[app.signature("next")]) == "reject"
    assert states(app, "results") == ["dead", "succeeded"]
    assert states(app, "claims") == ["succeeded"]
    assert states(app, "dead_letters") == ["open"]
    assert len(rows(app, "SELECT * FROM effects")) == 1


def test_a_call_whose_continuation_cannot_be_sent_is_dead_in_doubt(app: Any) -> None:
    assert deliver(app, "tell", "a", callbacks=[app.signature("next")]) == "reject"
    (claim,) = rows(app, "SELECT * FROM reliable_tasks.claims")
    assert (claim["state"], claim["may_have_acted"]) == ("dead", 1)
    # the call has happened, and what it sent belongs to it
    assert sent(app) == ["plain['sent']"]


@pytest.mark.parametrize(("end", "then"), [("ignore", []), ("replace", ["plain['instead']"])])
def test_the_effect_of_a_task_that_ends_by_ignore_is_kept(app: Any, end: str, then: list[str]) -> None:
    assert deliver(app, "pay", "a", end) == "ack"
    assert states(app, "claims") == ["succeeded"]
    assert len(rows(app, "SELECT * FROM effects")) == 1
    assert sent(app) == ["plain['sent']", *then]


def test_a_rejected_attempt_sends_nothing(app: Any) -> None:
    assert deliver(app, "pay", "a", "reject") == "requeue"
    assert rows(app, "SELECT * FROM effects") == []
    assert sent(app) == []


def test_a_failed_task_that_comes_again_is_no_dead_letter(app: Any) -> None:
    task_id = str(new_id())
    for _ in range(2):
        assert deliver(app, "quiet", "a", task_id=task_id) == "ack"
    assert (states(app, "results"), states(app, "claims"), states(app, "dead_letters")) == (
        ["failed"],
        ["failed"],
        [],
    )
