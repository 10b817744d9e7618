"""The application whose tasks are delivered to, without a broker."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from celery import _state
from celery.app.trace import build_tracer
from sqlalchemy import text

from reliable_tasks import ReliableCelery, TaskContext
from reliable_tasks.settings import load_settings
from reliable_tasks.store.engine import begin
from reliable_tasks.worker import ahead
from tests.integration.applied_topology import TOPOLOGY
from tests.integration.delivering.leaving import Act, leaves_its_effect
from tests.integration.delivering.one_delivery import CALLS, ENDINGS, HOOKS, TOGETHER, declare_tasks


@pytest.fixture(params=["by itself", "usual"])
def app(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Any]:
    # nothing is sent to a broker here: what a task sends is in the outbox
    settings = load_settings(
        {
            "RELIABLE_TASKS_BROKER_URL": "amqp://nobody:x@127.0.0.1:9/",
            "RELIABLE_TASKS_DATABASE_URL": fresh_database,
        }
    )
    monkeypatch.setattr(os, "environ", dict(os.environ))
    app = ReliableCelery("delivering", topology=TOPOLOGY, settings=settings, set_as_current=True)

    declare_tasks(app)
    with begin(app.runtime.engine) as connection:
        connection.execute(text("CREATE TABLE effects (name text)"))
    for each in (CALLS, HOOKS, ENDINGS, TOGETHER):
        each.clear()
    if request.param == "usual":
        TOGETHER.append(True)
    app.finalize()
    # as a pool process does when it starts
    monkeypatch.setattr(_state, "default_app", app)
    for task in app.tasks.values():
        task.__trace__ = build_tracer(task.name, task, app.loader, "here", app=app)
    yield app
    app.runtime.engine.dispose()


@pytest.fixture
def acts(app: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Act]:
    """What the tasks `alone` and `batch` do, by their case."""
    monkeypatch.setattr(ahead, "BUDGET_SECONDS", 60.0)
    found: dict[str, Act] = {}

    def run(ctx: TaskContext, case: str) -> Any:
        return found.get(case, leaves_its_effect)(ctx, case)

    for name, effects, batch in (
        ("alone", "database", 1),
        ("batch", "database", 10),
        ("call", "external", 1),
    ):
        task = app.idempotent_task(
            key=f"{name}:{{case}}", effects=effects, name=name, batch=batch, shared=False
        )(run)
        task.__trace__ = build_tracer(name, task, app.loader, "here", app=app)
    return found
