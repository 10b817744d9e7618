"""The result backend `reliable+postgresql://...`: Celery's interface to our results, for any Celery application."""

import time
from typing import Any

from celery import states as celery_states
from celery.backends.base import BaseBackend
from celery.exceptions import TimeoutError
from celery.result import result_from_tuple
from kombu.utils.json import dumps, loads

from reliable_tasks.errors import Undecodable
from reliable_tasks.model.states import CELERY_STATES, TaskState
from reliable_tasks.store import groups, results
from reliable_tasks.store.engine import begin, create_engine, is_outage
from reliable_tasks.worker.rebuilt import exception_of
from reliable_tasks.worker.recording import record_foreign
from reliable_tasks.worker.rows import now, request_columns, result_columns
from reliable_tasks.worker.unit import StoredResult, current_unit

_POLL_SECONDS = 0.02


class ReliableBackend(BaseBackend):
    """Stores results where auditors query them. In a running task of ours, it stores with the task's commit."""

    supports_autoexpire = False
    persistent = True

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        # whatever the application's settings say: a row is JSON, and is never read as anything that runs
        super().__init__(app, url=url, **{**kwargs, "serializer": "json", "accept": ["json"]})
        self._url = url
        self._engine: Any = None
        self.always_retry = True

    @property
    def engine(self) -> Any:
        """The application's engine, or for a plain Celery application one of our own."""
        runtime = getattr(self.app, "runtime", None)
        if runtime is not None:
            return runtime.engine
        if self._engine is None:
            address = (self._url or self.app.conf.result_backend or "").partition("://")[2]
            self._engine = create_engine(f"postgresql+psycopg2://{address}")
        return self._engine

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        return is_outage(exc)

    def decode(self, payload: Any) -> Any:
        """JSON only, and not what Celery does first: unpack a row that looks compressed.

        Raises:
            Undecodable: when the row holds anything else.
        """
        try:
            return loads(payload)
        except Exception as error:
            raise Undecodable(
                f"a stored result is no JSON: {type(error).__name__}",
                hint="it was not written by a worker of ours; look at it in the database",
            ) from None

    def exception_to_python(self, exc: Any) -> Any:
        """As Celery's, but no row chooses what is imported or called."""
        if not exc or isinstance(exc, BaseException):
            return exc or None
        thrown = [getattr(task, "throws", None) or () for task in self.app.tasks.values()]
        declared = {cls for one in thrown for cls in (one if isinstance(one, (tuple, list)) else (one,))}
        return exception_of(exc, declared)

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **_unused: Any,
    ) -> Any:
        columns = result_columns(result, state, str(traceback) if traceback else None)
        stored = StoredResult(task_id, state, columns, result)
        unit = current_unit.get()
        own_state = unit is not None and state in celery_states.READY_STATES | {celery_states.RETRY}
        if unit is not None and own_state:
            unit.results.append(stored)
            return result
        headers = dict(request.__dict__) if request is not None else {}
        if headers.get("task"):
            info = headers.get("delivery_info") or {}
            columns = {
                **request_columns(
                    headers, info.get("routing_key", ""), headers.get("args"), headers.get("kwargs")
                ),
                **columns,
                "attempt": int(headers.get("retries") or 0) + 1,
            }
        if state in celery_states.READY_STATES:
            columns["finished_at"] = now()
        if state == celery_states.STARTED:
            columns["started_at"] = now()
        with begin(self.engine) as connection:
            record_foreign(connection, StoredResult(task_id, state, columns, result))
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        with begin(self.engine) as connection:
            row = results.get(connection, task_id)
        if row is None:
            return {"task_id": task_id, "status": celery_states.PENDING, "result": None}
        meta = {
            "task_id": task_id,
            "status": row["celery_state"] or CELERY_STATES[TaskState(row["state"])],
            "result": self.decode(bytes(row["result"])) if row["result"] else None,
            "traceback": row["traceback"],
            "date_done": row["finished_at"],
            "name": row["name"],
            "args": row["args"],
            "kwargs": row["kwargs"],
            "worker": row["worker"],
            "retries": max(row["attempt"] - 1, 0),
            "queue": row["queue"],
            "parent_id": row["parent_id"],
            "children": [],
        }
        return dict(self.meta_from_decoded(meta))

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Any = None,
    ) -> Any:
        """As Celery's, but asking fifty times a second at first, and with a timeout that counts the asking too."""
        self._ensure_not_eager()
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = min(interval, _POLL_SECONDS)
        while True:
            meta = self.get_task_meta(task_id)
            if meta["status"] in celery_states.READY_STATES:
                return meta
            if on_interval:
                on_interval()
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("The operation timed out.")
            time.sleep(pause)  # as Celery polls: the database tells nobody of a result
            pause = min(pause * 1.1, max(interval, _POLL_SECONDS))

    def _forget(self, task_id: str) -> None:
        with begin(self.engine) as connection:
            results.forget(connection, task_id)

    def _save_group(self, group_id: str, result: Any) -> Any:
        with begin(self.engine) as connection:
            groups.save(connection, group_id, loads(dumps(result.as_tuple())))
        return result

    def _restore_group(self, group_id: str) -> Any:
        with begin(self.engine) as connection:
            row = groups.restore(connection, group_id)
        return {**row, "result": result_from_tuple(row["result"], self.app)} if row else None

    def _delete_group(self, group_id: str) -> None:
        with begin(self.engine) as connection:
            groups.remove(connection, group_id)

    def cleanup(self) -> None:
        """Nothing: results never expire by themselves; pruning is the archiver's, under legal holds."""

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self._url})
