"""The application that sends much at once, and the declared tasks that it sends."""

from decimal import Decimal
from typing import Any

from reliable_tasks import ReliableCelery, TaskContext
from reliable_tasks.settings import Settings
from tests.integration.applied_topology import TOPOLOGY


def application(settings: Settings) -> ReliableCelery:
    """With tasks of each kind; nobody executes them."""
    app = ReliableCelery("publishing", topology=TOPOLOGY, settings=settings, set_as_current=False)

    @app.idempotent_task(
        key="note:{number}", effects="none", queue="notifications", name="note", shared=False
    )
    def note(ctx: TaskContext, number: int, text: str = "") -> None:
        """The usual one."""

    @app.idempotent_task(
        key="pay:{order}", effects="database", name="pay", time_limit=20, queue="payments", shared=False
    )
    def pay(ctx: TaskContext, order: str, amount: Decimal) -> None:
        """With a limit."""

    @app.task(name="plain", ignore_result=True, shared=False)
    def plain(*args: Any, **kwargs: Any) -> None:
        """Takes anything."""

    app.finalize()
    return app
