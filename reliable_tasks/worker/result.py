"""The result of one task: Celery's, without what only `then` needs until somebody asks for it."""

from typing import Any

from celery.app import app_or_default
from celery.result import AsyncResult as CelerysResult
from celery.result import promise


class AsyncResult(CelerysResult):
    """As Celery's, whose promise is eight objects: made for each of many, they cost more than their messages."""

    app: Any = None

    def __init__(
        self, id: str, backend: Any = None, task_name: str | None = None, app: Any = None, parent: Any = None
    ) -> None:
        if id is None:
            raise ValueError("AsyncResult requires valid id, not None")
        self.app = app_or_default(app or self.app)
        self.id = id
        self.backend = backend or self.app.backend
        self.parent = parent
        self._cache = None
        self._ignored = False

    @property
    def on_ready(self) -> Any:
        """What `then` waits for."""
        return self.__dict__.setdefault("_on_ready", promise(self._on_fulfilled, weak=True))
