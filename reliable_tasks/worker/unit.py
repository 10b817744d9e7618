"""What one delivery does, collected while it runs and written in one commit: results and messages."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.retry import Decision
from reliable_tasks.store.chords import NewChord


@dataclass(frozen=True)
class StoredResult:
    """One call of Celery's `backend.store_result`, kept until the commit."""

    task_id: str
    celery_state: str
    values: dict[str, Any]
    raw: Any = None


@dataclass
class UnitOfWork:
    """Everything that a running task sends and stores. A failed attempt drops what the task itself sent."""

    messages: list[Message] = field(default_factory=list)
    results: list[StoredResult] = field(default_factory=list)
    chords: list[NewChord] = field(default_factory=list)
    """Headers that it sends."""

    bodies: dict[str, Any] = field(default_factory=dict)
    """Of the chords that it is or has ended a part of, by their group id: what is sent when it was the last part."""

    finish: list[str] = field(default_factory=list)
    """Chords that were completed elsewhere, and that it is to finish."""

    decision: Decision | None = None
    failure: BaseException | None = None
    correlation_id: str | None = None
    """The business case of the task that runs, for what it sends."""

    task_ids: frozenset[str] = frozenset()
    """The task that runs, and those that called it as a function."""

    replay: int = 0
    """Number of the replay that runs, for what goes on under its id."""

    returned: bool = False
    """Whether the function is over: what a thread that it has left behind sends would belong to nothing."""

    after_commit: list[Callable[[], Any]] = field(default_factory=list)
    """Eager mode only: tasks that run here when this one has committed."""

    def mark(self) -> int:
        """The point to which `drop_after` returns."""
        return len(self.messages)

    def drop_after(self, mark: int) -> None:
        """Forget what was sent since: the effect it belongs to is rolled back."""
        del self.messages[mark:]
        self._drop_chords(mark)

    def keep_last_after(self, mark: int) -> None:
        """Forget what was sent since, except the last message: the retry that the task has asked for."""
        del self.messages[mark : self.mark() - 1]
        self._drop_chords(mark)

    def _drop_chords(self, mark: int) -> None:
        self.chords = [chord for chord in self.chords if chord.after < mark]

    def result_of(self, task_id: str) -> StoredResult | None:
        """The last result stored for a task id."""
        for stored in reversed(self.results):
            if stored.task_id == task_id:
                return stored
        return None


current_unit: ContextVar[UnitOfWork | None] = ContextVar("reliable_tasks_unit", default=None)
"""The unit of work of the task that runs in this thread, if one does."""
