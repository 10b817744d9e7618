"""Sending with the caller's own transaction, synchronous and asynchronous."""

import asyncio
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from tests.waiting import wait_until

SECONDS = 20


def test_with_a_session(tasks: Any, database: Any, unique: str) -> None:
    with Session(database.engine) as session, session.begin():
        session.execute(text("INSERT INTO effects VALUES (:key, 0)"), {"key": f"{unique}-own"})
        sent = tasks.app.enqueue(session, tasks.pay.s(unique))
        assert database.state(sent.id) is None
    assert sent.get(timeout=SECONDS)["order"] == unique
    assert (database.effects(unique), database.effects(f"{unique}-own")) == (1, 1)


def test_a_rollback_sends_nothing(tasks: Any, database: Any, unique: str) -> None:
    with Session(database.engine) as session:
        sent = tasks.app.enqueue(session, tasks.pay.s(unique))
        later = tasks.app.enqueue(session, tasks.add.s(1, 1), task_id=f"{unique}-id")
        session.rollback()
    # what is sent afterwards arrives, so what was sent before would have
    assert tasks.add.delay(1, 1).get(timeout=SECONDS) == 2
    assert database.state(sent.id) is database.state(later.id) is None
    assert database.effects(unique) == 0


def test_with_an_asynchronous_session(tasks: Any, database: Any, around: Any, unique: str) -> None:
    async def enqueue(*, keep: bool, key: str) -> Any:
        engine = create_async_engine(around.database_url.replace("+psycopg2", "+asyncpg"))
        try:
            async with AsyncSession(engine) as session:
                sent = await tasks.app.enqueue(session, tasks.pay.s(key))
                await (session.commit() if keep else session.rollback())
                return sent
        finally:
            await engine.dispose()

    dropped = asyncio.run(enqueue(keep=False, key=f"{unique}-dropped"))
    kept = asyncio.run(enqueue(keep=True, key=unique))
    assert kept.get(timeout=SECONDS)["order"] == unique
    assert database.state(dropped.id) is None
    assert (database.effects(unique), database.effects(f"{unique}-dropped")) == (1, 0)


def test_a_chain_and_a_group_with_a_session(tasks: Any, database: Any, unique: str) -> None:
    from celery import chain, group

    with Session(database.engine) as session, session.begin():
        chained = tasks.app.enqueue(session, chain(tasks.add.s(1, 1), tasks.add.s(2)))
        grouped = tasks.app.enqueue(session, group(tasks.add.s(1, 1), tasks.add.s(2, 2)))
    assert chained.get(timeout=SECONDS) == 4
    assert grouped.get(timeout=SECONDS) == [2, 4]


def test_a_countdown_with_a_session(tasks: Any, database: Any, unique: str) -> None:
    with Session(database.engine) as session, session.begin():
        sent = tasks.app.enqueue(session, tasks.leave.s(unique), countdown=0.5)
    assert database.state(sent.id) == "enqueued"
    wait_until(lambda: database.state(sent.id) == "succeeded", "it ran")


def test_a_task_that_is_enqueued_twice_under_an_id_of_the_senders_is_one_result_that_ends(
    tasks: Any, database: Any, unique: str
) -> None:
    for _ in range(2):
        with Session(database.engine) as session, session.begin():
            sent = tasks.app.enqueue(session, tasks.pay.s(unique), task_id=f"{unique}-id")
        assert sent.get(timeout=SECONDS)["order"] == unique
    states = "SELECT state FROM reliable_tasks.results WHERE task_id = :id"
    assert [row["state"] for row in database.rows(states, id=f"{unique}-id")] == ["succeeded"]
    assert database.effects(unique) == 1
