"""The result backend `reliable+postgresql://...`: Celery's interface to our results, for any Celery application."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from celery import states as celery_states
from celery.backends.base import BaseBackend
from celery.exceptions import ImproperlyConfigured
from celery.result import ResultSet, result_from_tuple
from kombu.utils.json import dumps, loads

from reliable_tasks.errors import Undecodable
from reliable_tasks.model.states import ENDS, TaskState, celery_state
from reliable_tasks.store import chords, groups, results
from reliable_tasks.store.engine import begin, create_engine, is_outage
from reliable_tasks.worker.chording import finish_here, new_chord
from reliable_tasks.worker.foreign import record_foreign
from reliable_tasks.worker.publishing import chord_sink
from reliable_tasks.worker.rebuilt import exception_of, exception_of_end
from reliable_tasks.worker.rows import now, request_columns, result_columns
from reliable_tasks.worker.sets import MOST_REMEMBERED, leaves_of
from reliable_tasks.worker.unit import StoredResult, current_unit
from reliable_tasks.worker.waiting import each_ended, ended_now, in_parts


class ReliableBackend(BaseBackend):
    """Stores results where auditors query them. In a running task of ours, it stores with the task's commit."""

    supports_autoexpire = False
    supports_native_join = True
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
            come_to = record_foreign(connection, StoredResult(task_id, state, columns, result))
            if come_to in ENDS:
                chords.note_state(connection, task_id, come_to)
        return result

    def apply_chord(self, header_result_args: Any, body: Any, **_unused: Any) -> None:
        """Note what the body waits for, before the first part of the header is sent."""
        chord = new_chord(self.app, header_result_args, body)
        unit, sink = current_unit.get(), chord_sink.get()
        if sink is not None:
            sink(chord)
        elif unit is not None:
            unit.chords.append(chord)
        else:
            with begin(self.engine) as connection:
                chords.add(connection, [chord])

    def on_chord_part_return(self, request: Any, state: str, result: Any, **_unused: Any) -> None:
        """Count a part. Where tasks are recorded by us, that is done there, and here only the body noted."""
        unit = current_unit.get()
        if unit is not None:
            unit.bodies[request.group] = request.chord
        elif getattr(self.app, "runtime", None) is None and request.group:
            good = state == celery_states.SUCCESS
            finish_here(self.app, self.engine, request, TaskState.SUCCEEDED if good else TaskState.FAILED)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        with begin(self.engine) as connection:
            row = results.get(connection, task_id)
        if row is None:
            return {"task_id": task_id, "status": celery_states.PENDING, "result": None}
        return self.meta_of(row)

    def meta_of(self, row: dict[str, Any]) -> dict[str, Any]:
        """A result as Celery's clients have it."""
        meta = {
            "task_id": row["task_id"],
            "status": celery_state(row["state"], row["celery_state"]),
            "result": self.decode(bytes(row["result"])) if row["result"] else exception_of_end(row),
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
        """As Celery's, but woken by the commit that ends the task."""
        self._ensure_not_eager()
        if task_id in self._cache:
            return self._cache[task_id]
        waited = each_ended(
            self.engine, [task_id], timeout=timeout, interval=interval, on_interval=on_interval
        )
        return next(self._metas(waited))[1]

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Any = None,
        max_iterations: int | None = None,
        **_unused: Any,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each task's id and result as it ends; with `max_iterations`, of those that have ended already."""
        if on_message is not None:
            raise ImproperlyConfigured("Backend does not support on_message callback")
        if max_iterations is not None:
            return self._metas(row for some in in_parts(task_ids) for row in ended_now(self.engine, some))
        return self._metas(
            each_ended(self.engine, task_ids, timeout=timeout, interval=interval, on_interval=on_interval)
        )

    def _metas(self, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in rows:
            meta = self.meta_of(row)
            if meta["status"] == celery_states.SUCCESS:
                self._cache[row["task_id"]] = meta
            yield row["task_id"], meta

    def iter_native(self, result: Any, no_ack: bool = True, **options: Any) -> Iterator[tuple[str, Any]]:
        """The results of a group, and then the groups within it, whose results are there by then."""
        self._ensure_not_eager()
        leaves = {leaf.id: leaf for leaf in leaves_of(result.results)}
        direct = {one.id for one in result.results}
        known = [(leaf.id, leaf._cache) for leaf in leaves.values() if leaf._cache]
        asked = (task_id for task_id, leaf in leaves.items() if not leaf._cache)
        for task_id, meta in chain(known, self.get_many(asked, **options)):
            if len(leaves) <= MOST_REMEMBERED:
                leaves[task_id]._maybe_set_cache(meta)
            if task_id in direct:
                yield task_id, meta
        for one in result.results:
            if isinstance(one, ResultSet):
                yield one.id, one.results

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
