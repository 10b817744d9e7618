"""A chord that a task sends is known from the commit that sends its header on: else nobody would finish it."""

from typing import Any

import pytest
from celery import chord
from celery.app.trace import build_tracer

from reliable_tasks import TaskContext
from tests.integration.delivering.one_delivery import deliver, rows, states


@pytest.mark.parametrize("effects", ["none", "database"])
def test_a_chord_is_there_with_its_header(app: Any, effects: str) -> None:
    plain = app.tasks["plain"]

    def run(ctx: TaskContext, case: str) -> str:
        chord([plain.s("a"), plain.s("b")], plain.si("body")).apply_async()
        return case

    task = app.idempotent_task(key="sum:{case}", effects=effects, name="sum", shared=False)(run)
    task.__trace__ = build_tracer("sum", task, app.loader, "here", app=app)
    assert deliver(app, "sum", "a") == "ack"
    assert "succeeded" in states(app, "results")
    (known,) = rows(app, "SELECT size FROM reliable_tasks.chords")
    assert known["size"] == 2
    assert len(rows(app, "SELECT 1 FROM reliable_tasks.outbox WHERE task_name = 'plain'")) == 2
