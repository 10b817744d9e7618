"""Celery's remote control, without what would throw accepted messages away: `celery worker --purge` for one."""

from typing import Any

from celery.app import control

from reliable_tasks.errors import OperationRefused


class Control(control.Control):
    """As Celery's; but it does not empty queues."""

    def purge(self, connection: Any = None) -> Any:
        """Refused.

        Raises:
            OperationRefused: always.
        """
        raise OperationRefused(
            "purging would lose every task that waits in a queue: no row tells of those that were sent directly",
            hint="leave --purge out; `reliable-tasks tasks cancel` withdraws tasks, and says so in their results",
        )

    discard_all = purge
