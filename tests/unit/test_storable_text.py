"""Arguments and failures that Postgres would refuse are made storable instead of losing the task's record."""

from reliable_tasks.worker.rows import failure_columns, readable, storable


def test_nul_and_lone_surrogates_never_reach_the_database() -> None:
    assert readable(["a\x00b"]) == ["a\ufffdb"]
    assert readable({"k": "\ud800"}) == {"k": "?"}
    assert "\x00" not in failure_columns(ValueError("a\x00b"))["exception_message"]
    assert storable("plain") == "plain"
