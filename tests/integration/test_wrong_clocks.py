"""Machines whose clocks are wrong: what they record has the database's time."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from reliable_tasks.store import clock
from reliable_tasks.store.engine import create_engine
from reliable_tasks.worker.rows import now
from tests.chaos.clock import wrong_by


@pytest.mark.parametrize("hours", [-2, 2])
def test_no_attempt_seems_to_end_before_its_task_was_sent(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    monkeypatch.setattr(clock, "_ahead", timedelta())
    monkeypatch.setattr(clock, "datetime", wrong_by(timedelta(hours=hours)))
    before = datetime.now(UTC)
    with create_engine(fresh_database).connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    assert before - timedelta(minutes=1) < now() < datetime.now(UTC) + timedelta(minutes=1)


def test_a_right_clock_is_left_alone(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_ahead", timedelta(hours=1))
    create_engine(fresh_database).connect().close()
    assert clock._ahead == timedelta()
