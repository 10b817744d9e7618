"""The transactions around an execution: one for everything, or short ones around a call to something outside."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import structlog
from tenacity import Retrying, retry_if_exception, wait_random_exponential

from reliable_tasks import failpoints
from reliable_tasks.errors import Fenced, TransactionEnded
from reliable_tasks.model.retry import Effects
from reliable_tasks.model.states import TaskState
from reliable_tasks.store import attempts, claims, leases, results
from reliable_tasks.store.engine import (
    begin,
    database_now,
    is_lock_timeout,
    transaction_is_gone,
    waiting_at_most,
    will_pass,
)
from reliable_tasks.store.lending import lend
from reliable_tasks.store.verdicts import BeyondRetention, Busy, ClaimRequest, Owned
from reliable_tasks.worker.call import Call, Delivery
from reliable_tasks.worker.function_work import function_work
from reliable_tasks.worker.keyless import keyless, lost_attempt
from reliable_tasks.worker.options import TaskOptions
from reliable_tasks.worker.outcome import Outcome
from reliable_tasks.worker.recording import record, refuse_cancelled
from reliable_tasks.worker.rows import now, request_columns
from reliable_tasks.worker.runtime import Runtime
from reliable_tasks.worker.verdicts import Expired, NotYet, Poison, Withdrawn, worthless

log = structlog.get_logger("reliable_tasks.worker")

LOCK_WAIT_SECONDS = 2


class ShortTransactions:
    """Claim, commit; execute; record, commit. For external effects, and for tasks without a key."""

    one_transaction = False

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.owner = uuid4()
        self.request: ClaimRequest | None = None
        self.owned: Owned | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def claim(self, call: Call) -> Any:
        """Who may run this call; Owned is the one answer that runs it."""
        if failpoints.ACTIVE:
            failpoints.reach("worker.after_verify")
        try:
            crashes = self._count_crash(call)
            return self._claim(call, crashes)
        except Exception as error:
            if not is_lock_timeout(error):
                raise
        # the uncommitted row of another execution is its lock; wait our turn in the outbox
        self.owned = None
        with self.connection() as connection:
            return Busy(database_now(connection) + timedelta(seconds=LOCK_WAIT_SECONDS))

    def _claim(self, call: Call, crashes: int) -> Any:
        with self.connection() as connection, waiting_at_most(connection, LOCK_WAIT_SECONDS):
            verdict = self._take(connection, call, crashes)
            if isinstance(verdict, Owned):
                if verdict.takeover:
                    attempts.add(connection, lost_attempt(call, verdict.attempt - 1, verdict.fence - 1))
                self._say_running(connection, call, verdict)
                if call.key is not None and call.delivery.can_come_again:
                    message = self.runtime.signer.sign_again(call.delivery.message_begun(), now())
                    leases.keep(connection, call.task.name, call.key, message)
            return verdict

    def record(self, delivery: Delivery, outcome: Outcome) -> None:
        """Commit the outcome; while the database is away, wait: the effect has happened and must not be forgotten."""
        for attempt in Retrying(
            retry=retry_if_exception(will_pass), wait=wait_random_exponential(0.2, 10), reraise=True
        ):
            with attempt:
                with self.connection() as connection:
                    self._write(connection, delivery, outcome)
                    if failpoints.ACTIVE:
                        failpoints.reach("ext.before_outcome_commit", connection.connection)
                if failpoints.ACTIVE:
                    failpoints.reach("ext.after_outcome_commit")

    def work(self) -> AbstractContextManager[Any]:
        """Nothing to work with: a database effect of an external task would not be atomic with its claim."""
        return nullcontext()

    def undo(self) -> None:
        """Take the function's database effect back; there is none here."""

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
                    if not leases.extend(connection, self.request, self.owned.fence):
                        return
            except Exception as error:
                log.warning("lease_not_extended", key=self.request.key, error=str(error))

    def _take(self, connection: Any, call: Call, crashes: int) -> Any:
        if call.not_before is not None and call.not_before > database_now(connection):
            return NotYet(call.not_before)
        state = results.standing(connection, call.task_id)
        if state is not None and state["state"] in ("cancelled", "expired", "discarded", "duplicate"):
            return Withdrawn()
        if state is not None and state["replay"] > call.replay:
            return Withdrawn()  # a late copy: the replay of an operator will end the task
        if (
            call.expires_at is not None
            and worthless(call, database_now(connection))
            # a busy key's message that comes again is not marked as redelivered
            and not claims.in_doubt(connection, call.task.name, call.key, call.task_id)
        ):
            return Expired()
        if call.options is None or call.key is None:
            return keyless(connection, call, state)
        self.request = self._wanted(call, call.options, call.key)
        verdict = claims.take(connection, self.request)
        if isinstance(verdict, BeyondRetention) and state is not None and state["state"] == "succeeded":
            return Withdrawn()  # its key is forgotten, its result is not
        if isinstance(verdict, Owned):
            self.owned = verdict
            if crashes > call.options.max_crashes:
                return Poison(verdict)
        return verdict

    def _say_running(self, connection: Any, call: Call, owned: Owned) -> None:
        """With the claim's commit the task runs, and nobody may cancel it any more."""
        running = {
            **request_columns(call.delivery.request, call.delivery.queue, call.args, call.kwargs),
            "idempotency_key": call.key,
            "attempt": owned.attempt,
            "started_at": now(),
            # what an earlier end of the same task has left
            **dict.fromkeys(("celery_state", "finished_at", "reason", "exception_type", "exception_message")),
        }
        if not results.store(connection, call.task_id, TaskState.RUNNING, running):
            refuse_cancelled(connection, call.task_id)

    def _count_crash(self, call: Call) -> int:
        if call.key is None or call.options is None or not call.delivery.redelivered or call.delivery.begun:
            return 0
        request = self._wanted(call, call.options, call.key)
        with begin(self.runtime.engine) as connection, waiting_at_most(connection, LOCK_WAIT_SECONDS):
            return claims.count_crash(connection, request)

    def _wanted(self, call: Call, options: TaskOptions, key: str) -> ClaimRequest:
        return ClaimRequest(
            task_name=call.task.name,
            key=key,
            fingerprint=call.fingerprint,
            task_id=call.task_id,
            owner=self.owner,
            lease=options.lease,
            replay=call.replay,
            may_act=options.effects is Effects.EXTERNAL,
            sent_at=call.sent_at,
        )

    def _write(self, connection: Any, delivery: Delivery, outcome: Outcome) -> None:
        if outcome.claim_state is not None and self.request is not None and self.owned is not None:
            kept = claims.finish(
                connection,
                self.request,
                self.owned.fence,
                outcome.claim_state,
                may_have_acted=outcome.may_have_acted,
            )
            if not kept and self.one_transaction:
                raise transaction_ended(delivery)  # nobody else can have a claim that is not committed yet
            if not kept:
                raise Fenced(
                    f"another execution owns the key {self.request.key} now; what this one did is not recorded"
                )
            if not self.one_transaction:
                leases.drop(connection, self.request.task_name, self.request.key)
        record(connection, delivery, outcome, self.request.key if self.request else None)


class OneTransaction(ShortTransactions):
    """Claim, effect, result and everything sent, in one transaction: a crash leaves nothing behind."""

    one_transaction = True
    _connection: Any = None
    _transaction: Any = None
    _effect: Any = None

    def __enter__(self) -> Self:
        self._transaction = begin(self.runtime.engine)
        self._connection = self._transaction.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transaction.__exit__(kind, error, trace)

    def _claim(self, call: Call, crashes: int) -> Any:
        with waiting_at_most(self._connection, LOCK_WAIT_SECONDS):
            return self._take(self._connection, call, crashes)

    def record(self, delivery: Delivery, outcome: Outcome) -> None:
        try:
            self._write(self._connection, delivery, outcome)
        except Exception as error:
            if self._connection.invalidated or not transaction_is_gone(error):
                raise
            raise transaction_ended(delivery) from error
        if failpoints.ACTIVE:
            failpoints.reach("worker.before_commit", self._connection.connection)

    @contextmanager
    def work(self) -> Iterator[Any]:
        """Work in a savepoint that stays open: what follows the function may fail, and `undo` it."""
        self._effect = self._connection.begin_nested()
        with function_work(lend(self._connection), lambda: self._connection, self.undo) as work:
            yield work

    def undo(self) -> None:
        if self._effect is None or not self._effect.is_active:
            return
        while (inner := self._connection.get_nested_transaction()) not in (self._effect, None):
            inner.rollback()  # one whose release has failed: SQLAlchemy leaves it behind
        self._effect.rollback()

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        yield  # the open transaction is the heartbeat

    def connection(self) -> AbstractContextManager[Any]:
        return nullcontext(self._connection)


def transaction_ended(delivery: Delivery) -> TransactionEnded:
    """What to say when the task has ended the transaction that holds its claim."""
    return TransactionEnded(
        f"task {delivery.task_id} has ended the transaction of its claim: nothing of it is kept",
        hint="ctx.session's own commit and rollback are harmless; leave out those of the connection below it, and "
        "COMMIT and ROLLBACK as SQL",
    )


def steps_for(runtime: Runtime, task: Any) -> ShortTransactions:
    """The transactions that the task's effects ask for."""
    options = getattr(task, "reliable_options", None)
    if options is not None and options.effects is not Effects.EXTERNAL:
        return OneTransaction(runtime)
    return ShortTransactions(runtime)
