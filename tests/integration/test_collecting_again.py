"""The collector and its source when the database goes away between taking and recording."""

import time
from typing import Any

import pytest
from sqlalchemy import text

from reliable_tasks.services.collector import Collector
from reliable_tasks.store.engine import begin
from tests.integration.dying import die
from tests.waiting import wait_until

STRANGE: list[dict[str, Any]] = [
    {"properties": {"correlation_id": "a\x00b", "reply_to": "\x00"}},
    {"id": "".join(map(chr, range(0x4E00, 0x9000)))},
    {"rt-replay": 2**40},
    {"task": 5, "id": [1, {"a": None}]},
    {"task": "x" * 5000},
]


@pytest.mark.parametrize("strange", STRANGE, ids=["nul", "long-id", "huge", "types", "long-name"])
def test_a_strange_message_holds_up_no_other(
    engine: Any, collector: Collector, channel: Any, strange: dict[str, Any]
) -> None:
    for message in ({"id": "a"}, {"id": "strange", **strange}, {"id": "z"}):
        die(channel, **{"task": "pay", **message})
    wait_until(lambda: (collector.run_once(), len(kept(engine)))[1] == 3, "all three", 10)
    assert {"a", "z"} < set(kept(engine))
    assert collector.run_once() == 0


def until_taken(collector: Collector) -> None:
    """Collect until something was there; whatever that raises is raised."""
    deadline = time.monotonic() + 10
    while not collector.run_once() and time.monotonic() < deadline:
        pass


def kept(engine: Any) -> list[str]:
    with begin(engine) as connection:
        query = text("SELECT task_id FROM reliable_tasks.dead_letters ORDER BY task_id")
        return list(connection.execute(query).scalars())


OBSTACLES = {
    "a statement": (
        "ALTER TABLE reliable_tasks.dead_letters RENAME TO away",
        "ALTER TABLE reliable_tasks.away RENAME TO dead_letters",
        "lacks our schema",
    ),
    "the commit": (
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON reliable_tasks.dead_letters
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
        "DROP TRIGGER refuse ON reliable_tasks.dead_letters",
        "not today",
    ),
    "the session": (
        """
        CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
        CREATE TRIGGER leave AFTER INSERT ON reliable_tasks.dead_letters
            FOR EACH STATEMENT EXECUTE FUNCTION leave()
        """,
        "DROP TRIGGER leave ON reliable_tasks.dead_letters",
        "cannot be reached",
    ),
}


@pytest.mark.parametrize(("obstacle", "removal", "told"), OBSTACLES.values(), ids=OBSTACLES)
def test_what_could_not_be_recorded_is_not_acked_with_the_next_batch(
    engine: Any, collector: Collector, channel: Any, obstacle: str, removal: str, told: str
) -> None:
    die(channel, id="first", task="pay")
    with begin(engine) as connection:
        connection.execute(text(obstacle))
    with pytest.raises(Exception, match=told):
        until_taken(collector)
    with begin(engine) as connection:
        connection.execute(text(removal))
    die(channel, id="second", task="pay")
    wait_until(lambda: collector.run_once() == 0 and len(kept(engine)) == 2, "both dead letters", 10)
