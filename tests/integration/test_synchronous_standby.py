"""With a synchronous standby, nothing is told as committed that the standby may not have."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from reliable_tasks.dev import Stack
from reliable_tasks.errors import DatabaseUnreachable
from reliable_tasks.store.engine import begin, create_engine
from tests.standby import CANCEL, standby_away
from tests.waiting import wait_until


def _insert(engine: Engine) -> None:
    with begin(engine) as connection:
        connection.execute(text("INSERT INTO kept VALUES (1)"))


@pytest.fixture
def kept(fresh_database: str) -> Iterator[Engine]:
    """A database with a table."""
    engine = create_engine(fresh_database)
    with begin(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE kept (id int)")
    yield engine
    engine.dispose()


def test_a_commit_that_no_longer_waits_for_the_standby_is_not_told_as_done(
    reliable_stack: Stack, kept: Engine
) -> None:
    with standby_away(reliable_stack, lambda: _insert(kept)) as (pair, commit):
        wait_until(lambda: [pair.primary.ask(CANCEL), commit.done()][1], "the commit to end")
        with pytest.raises(DatabaseUnreachable, match="standby"):
            commit.result()


def test_a_commit_whose_wait_was_cancelled_is_done_when_the_standby_has_it_after_all(
    reliable_stack: Stack, kept: Engine
) -> None:
    with standby_away(reliable_stack, lambda: _insert(kept)) as (pair, commit):
        wait_until(lambda: pair.primary.ask(CANCEL), "the commit to wait")
        pair.standby.database.begin()
        commit.result(30)
        assert pair.standby.ask("SELECT count(*) FROM kept", str(kept.url.database)) == 1


def test_what_a_trigger_says_at_the_commit_is_no_doubt(kept: Engine) -> None:
    with begin(kept) as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "BEGIN RAISE WARNING 'as it ends'; RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER speak AFTER INSERT "
            "ON kept INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION speak()"
        )
    _insert(kept)
    with begin(kept) as connection:
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar_one() == 1
