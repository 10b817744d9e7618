"""Tasks that could not be run as they are declared are refused where they are declared."""

import os
from datetime import timedelta
from typing import Any

import pytest

from reliable_tasks import CallAgain, Probe, ReliableCelery, Retry
from reliable_tasks.errors import TaskDeclarationError
from reliable_tasks.settings import load_settings
from tests.integration.applied_topology import TOPOLOGY


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    address = {
        "RELIABLE_TASKS_BROKER_URL": "amqp://x:x@127.0.0.1:9/",
        "RELIABLE_TASKS_DATABASE_URL": "postgresql://127.0.0.1:9/x",
    }
    return ReliableCelery(
        "declaring", topology=TOPOLOGY, settings=load_settings(address), set_as_current=False
    )


def plain(ctx: Any, order: str) -> None: ...


async def asynchronous(ctx: Any, order: str) -> None: ...


def generating(ctx: Any, order: str) -> Any:
    yield order


def forgetting() -> None: ...


def taking_all(ctx: Any, **more: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "function", "said"),
    [
        ({}, asynchronous, "asynchronous"),
        ({}, generating, "generator"),
        ({}, forgetting, "does not take"),
        ({"key": "order:{oder}"}, plain, "oder"),
        ({"key": "order:{ctx}"}, plain, "ctx"),
        ({"key": "order:{order"}, plain, "cannot be formatted"),
        ({"retry": 5}, plain, "retry=5"),
        ({"lease": 60}, plain, "lease=60"),
        ({"effects": "external", "on_uncertain": CallAgain}, plain, "on_uncertain="),
        ({"base": object}, plain, "base class"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_cannot_work_is_refused_where_it_is_declared(
    app: Any, options: dict[str, Any], function: Any, said: str
) -> None:
    with pytest.raises(TaskDeclarationError, match=said):
        app.idempotent_task(**{"key": "order:{order}", **options})(function)


def test_what_can_work_is_declared(app: Any) -> None:
    for number, options in enumerate(
        (
            {"retry": Retry(), "lease": timedelta(5)},
            {"on_uncertain": CallAgain()},
            {"on_uncertain": Probe(print)},
        )
    ):
        app.idempotent_task(
            key="order:{order.id[0]!r:>9}", name=f"task{number}", effects="external", **options
        )(plain)
    app.idempotent_task(key="order:{order}", name="all")(taking_all)
