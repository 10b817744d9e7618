"""What a task function is given: its transaction, its key, its attempt, and a way to send more."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reliable_tasks.errors import ExecutionError, TaskDeclarationError
from reliable_tasks.worker.unit import UnitOfWork, current_unit

if TYPE_CHECKING:
    from reliable_tasks.store.sessions import Session, TaskCursor, Work


@dataclass(frozen=True)
class TaskContext:
    """The first argument of an idempotent task.

    Args:
        task_id: Celery's id of this task.
        idempotency_key: unchanged over attempts, redeliveries and replays; hand it to the other system.
        attempt: 1 for the first execution.
        fence: grows with every execution of the key; a write with an older one is refused.
        deadline: when the hard time limit ends the execution, aware UTC; None without a limit.
    """

    task_id: str
    idempotency_key: str
    attempt: int
    fence: int
    replay: int = 0
    deadline: datetime | None = None
    task: Any = field(default=None, repr=False)
    _work: "Work | None" = field(default=None, repr=False)
    _unit: UnitOfWork | None = field(default=None, repr=False)

    @property
    def session(self) -> "Session":
        """A SQLAlchemy session in the transaction that commits with the claim, the result and the outbox.

        Raises:
            TaskDeclarationError: in a task without effects="database".
        """
        return self._in_transaction("session").session

    def cursor(self) -> "TaskCursor":
        """A new cursor of psycopg2's own in the same transaction: plain statements cost much less than by `session`.

        It ends with the function. Its errors are psycopg2's; after one there is only a ROLLBACK TO a SAVEPOINT that was
        set before. `session.rollback()` undoes what was done since `session` was first used, here or there.

        Raises:
            TaskDeclarationError: in a task without effects="database".
        """
        return self._in_transaction("cursor()").cursor()

    def _in_transaction(self, name: str) -> "Work":
        if self._work is None:
            raise TaskDeclarationError(
                f"ctx.{name} is there only for tasks with effects='database'",
                hint="declare effects='database', or open a session of your own for reading",
            )
        return self._work

    def enqueue(self, signature: Any, **options: Any) -> str:
        """Send another task if, and only if, this attempt commits; returns its task id. Threads may call it, too.

        Raises:
            ExecutionError: when the function has ended before a thread that it has started.
        """
        if self._unit is not None and self._unit.returned:
            raise ExecutionError(
                f"the function of task {self.task_id} is over: what is sent now would belong to nothing",
                hint="let the function wait for the threads that it starts",
            )
        token = current_unit.set(
            self._unit or current_unit.get()
        )  # a thread of the function's own does not know it
        try:
            return str(signature.apply_async(**options).id)
        finally:
            current_unit.reset(token)
