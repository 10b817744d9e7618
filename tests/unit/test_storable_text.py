"""Arguments and failures that Postgres would refuse are made storable instead of losing the task's record."""

from reliable_tasks.model.storable import storable, storable_json
from reliable_tasks.worker.rows import failure_columns, readable


def test_nul_and_lone_surrogates_never_reach_the_database() -> None:
    assert readable(["a\x00b"]) == ["a\ufffdb"]
    assert readable({"k": "\ud800"}) == {"k": "?"}
    assert "\x00" not in failure_columns(ValueError("a\x00b"))["exception_message"]
    assert storable("plain") == "plain"


def test_text_that_only_looks_like_an_escaped_nul_stays_as_it_is() -> None:
    assert readable(["\\u0000"]) == ["\\u0000"]
    assert storable_json({"a\x00": [("\x00", 1, None)]}) == {"a\ufffd": [["\ufffd", 1, None]]}


def test_numbers_that_json_does_not_know_become_text() -> None:
    assert storable_json({"n": [float("nan"), float("-inf"), 1.5]}) == {"n": ["nan", "-inf", 1.5]}
