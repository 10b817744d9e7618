"""The transactions around an execution: one for everything, or short ones around a call to something outside."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import structlog
from tenacity import Retrying, retry_if_exception, wait_random_exponential

from reliable_tasks.errors import Fenced
from reliable_tasks.model.retry import Effects
from reliable_tasks.model.states import TaskState
from reliable_tasks.store import claims, results
from reliable_tasks.store.engine import begin, database_now, is_lock_timeout, is_outage
from reliable_tasks.store.sessions import session_in
from reliable_tasks.worker.call import Call, Delivery
from reliable_tasks.worker.outcome import Outcome
from reliable_tasks.worker.recording import record, refuse_cancelled
from reliable_tasks.worker.rows import now, request_columns
from reliable_tasks.worker.runtime import Runtime

log = structlog.get_logger("reliable_tasks.worker")

LOCK_WAIT_SECONDS = 2


class NotYet:
    """The message is not due; whoever sent it did not use our outbox."""

    def __init__(self, until: datetime) -> None:
        self.until = until


class Withdrawn:
    """The task has ended before it began: cancelled, expired, or it is a redelivery of a recorded end."""


class Expired:
    """The sender's time is over, and nothing has been done yet."""


class Poison:
    """Executions of this key have died with their workers too often."""

    def __init__(self, owned: claims.Owned) -> None:
        self.owned = owned


class ShortTransactions:
    """Claim, commit; execute; record, commit. For external effects, and for tasks without a key."""

    one_transaction = False

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.owner = uuid4()
        self.request: claims.ClaimRequest | None = None
        self.owned: claims.Owned | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def claim(self, call: Call) -> Any:
        """Who may run this call; Owned is the one answer that runs it."""
        crashes = self._count_crash(call)
        with self.connection() as connection:
            verdict = self._take(connection, call, crashes)
            if isinstance(verdict, claims.Owned):
                self._say_running(connection, call, verdict)
            return verdict

    def record(self, delivery: Delivery, outcome: Outcome) -> None:
        """Commit the outcome; while the database is away, wait: the effect has happened and must not be forgotten."""
        for attempt in Retrying(
            retry=retry_if_exception(is_outage), wait=wait_random_exponential(0.2, 10), reraise=True
        ):
            with attempt, self.connection() as connection:
                self._write(connection, delivery, outcome)

    def session(self) -> AbstractContextManager[Any]:
        """No session: a database effect of an external task would not be atomic with its claim."""
        return nullcontext()

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Extend the lease while the call runs, at a third of its length."""
        if self.request is None or self.owned is None:
            yield
            return
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(stop,), name="lease", daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join(timeout=5)

    def connection(self) -> AbstractContextManager[Any]:
        return begin(self.runtime.engine)

    def _beat(self, stop: threading.Event) -> None:
        assert self.request is not None
        assert self.owned is not None
        while not stop.wait(self.request.lease.total_seconds() / 3):
            try:
                with self.connection() as connection:
                    if not claims.extend(connection, self.request, self.owned.fence):
                        return
            except Exception as error:
                log.warning("lease_not_extended", key=self.request.key, error=str(error))

    def _take(self, connection: Any, call: Call, crashes: int) -> Any:
        if call.not_before is not None and call.not_before > database_now(connection):
            return NotYet(call.not_before)
        state = results.get(connection, call.task_id)
        if state is not None and state["state"] in ("cancelled", "expired", "discarded", "duplicate"):
            return Withdrawn()
        if _worthless(call, database_now(connection)):
            return Expired()
        if call.options is None or call.key is None:
            ended = state is not None and state["state"] in ("succeeded", "failed", "dead")
            # a part of a chain that failed with the part before it, which was replayed
            ended = ended and state is not None and state["reason"] != results.PREDECESSOR
            repeated = ended and state is not None and state["replay"] >= call.replay
            return Withdrawn() if repeated else claims.Owned(0, _attempt_of(call), False, False)
        self.request = claims.ClaimRequest(
            task_name=call.task.name,
            key=call.key,
            fingerprint=call.fingerprint,
            task_id=call.task_id,
            owner=self.owner,
            lease=call.options.lease,
            replay=call.replay,
            may_act=call.options.effects is Effects.EXTERNAL,
        )
        verdict = claims.take(connection, self.request)
        if isinstance(verdict, claims.Owned):
            self.owned = verdict
            if crashes > call.options.max_crashes:
                return Poison(verdict)
        return verdict

    def _say_running(self, connection: Any, call: Call, owned: claims.Owned) -> None:
        """With the claim's commit the task runs, and nobody may cancel it any more."""
        running = {
            **request_columns(call.delivery.request, call.delivery.queue, call.args, call.kwargs),
            "idempotency_key": call.key,
            "attempt": owned.attempt,
            "started_at": now(),
            "celery_state": None,
        }
        if not results.store(connection, call.task_id, TaskState.RUNNING, running):
            refuse_cancelled(connection, call.task_id)

    def _count_crash(self, call: Call) -> int:
        if call.key is None or call.options is None or not call.delivery.redelivered:
            return 0
        request = claims.ClaimRequest(
            call.task.name,
            call.key,
            call.fingerprint,
            call.task_id,
            self.owner,
            call.options.lease,
            call.replay,
        )
        with begin(self.runtime.engine) as connection:
            return claims.count_crash(connection, request)

    def _write(self, connection: Any, delivery: Delivery, outcome: Outcome) -> None:
        if outcome.claim_state is not None and self.request is not None and self.owned is not None:
            kept = claims.finish(
                connection,
                self.request,
                self.owned.fence,
                outcome.claim_state,
                may_have_acted=outcome.may_have_acted,
            )
            if not kept:
                raise Fenced(
                    f"another execution owns the key {self.request.key} now; what this one did is not recorded"
                )
        record(connection, delivery, outcome, self.request.key if self.request else None)


class OneTransaction(ShortTransactions):
    """Claim, effect, result and everything sent, in one transaction: a crash leaves nothing behind."""

    one_transaction = True
    _connection: Any = None
    _transaction: Any = None

    def __enter__(self) -> Self:
        self._transaction = begin(self.runtime.engine)
        self._connection = self._transaction.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transaction.__exit__(kind, error, trace)

    def claim(self, call: Call) -> Any:
        crashes = self._count_crash(call)
        self._connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WAIT_SECONDS}s'")
        try:
            with self._connection.begin_nested():
                verdict = self._take(self._connection, call, crashes)
        except Exception as error:
            if not is_lock_timeout(error):
                raise
            # the uncommitted row of another execution is its lock; wait our turn in the outbox
            return claims.Busy(database_now(self._connection) + timedelta(seconds=LOCK_WAIT_SECONDS))
        self._connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        return verdict

    def record(self, delivery: Delivery, outcome: Outcome) -> None:
        self._write(self._connection, delivery, outcome)

    def session(self) -> AbstractContextManager[Any]:
        return session_in(self._connection)

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        yield  # the open transaction is the heartbeat

    def connection(self) -> AbstractContextManager[Any]:
        return nullcontext(self._connection)


def steps_for(runtime: Runtime, task: Any) -> ShortTransactions:
    """The transactions that the task's effects ask for."""
    options = getattr(task, "reliable_options", None)
    if options is not None and options.effects is not Effects.EXTERNAL:
        return OneTransaction(runtime)
    return ShortTransactions(runtime)


def _attempt_of(call: Call) -> int:
    return int(call.delivery.request.get("retries") or 0) + 1


def _worthless(call: Call, moment: datetime) -> bool:
    """Whether it has expired; a task that an operator replays, or that may have called something, has not."""
    if call.expires_at is None or call.expires_at > moment or call.replay:
        return False
    external = call.options is not None and call.options.effects is Effects.EXTERNAL
    return not (external and (call.delivery.redelivered or _attempt_of(call) > 1))
