"""Execute a claimed call with Celery's own tracer, and make an outcome of what came of it."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import Ignore, Reject
from celery.exceptions import Retry as CeleryRetry
from structlog.contextvars import bind_contextvars, reset_contextvars

from reliable_tasks import failpoints
from reliable_tasks.errors import UncertainEffect
from reliable_tasks.model.envelope import CORRELATION_ID
from reliable_tasks.model.retry import Effects, TryAgain, decide
from reliable_tasks.model.states import TaskState
from reliable_tasks.store.verdicts import Owned
from reliable_tasks.worker.arguments import to_wire
from reliable_tasks.worker.call import Call
from reliable_tasks.worker.context import TaskContext
from reliable_tasks.worker.ending import classify, fill, ignored
from reliable_tasks.worker.options import CallAgain, Probe
from reliable_tasks.worker.outcome import Outcome
from reliable_tasks.worker.plain import is_plain
from reliable_tasks.worker.rows import now, result_columns
from reliable_tasks.worker.unit import StoredResult, UnitOfWork, current_unit

_NOTHING = object()


@dataclass
class Execution:
    """One run of one task function; the task's `run` finds it in `current_execution`."""

    call: Call
    owned: Owned
    steps: Any = None
    unit: UnitOfWork = field(default_factory=UnitOfWork)
    stored: Any = _NOTHING
    begun: bool = False
    # what the function has raised where Celery's tracer had no part in it
    raised: Exception | None = None
    # how many messages there were when the function had returned; None before
    returned: int | None = None
    # an earlier call may have happened, and nobody has said yet that it did not
    doubt: bool = field(init=False)

    def __post_init__(self) -> None:
        self.doubt = self.owned.may_have_acted
        caller = current_unit.get()
        self.unit.correlation_id = self.call.delivery.request.get(CORRELATION_ID)
        self.unit.replay = self.call.replay
        self.unit.task_ids = frozenset({self.call.task_id}) | (caller.task_ids if caller else frozenset())

    def run(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Call the user's function in its context; classify its failure; ask for a retry where that is decided."""
        self.begun = True
        if self.stored is not _NOTHING:
            return self.stored
        mark = 0 if self.raised is not None else self.unit.mark()
        try:
            if self.raised is not None:
                raise self.raised
            value = self.call_once(task, task.reliable_arguments.bind(args, kwargs))
        except CeleryRetry:
            # only the retry itself survives: what else was sent belongs to an effect that is undone
            self.unit.keep_last_after(mark)
            raise
        except Ignore:
            raise
        except Reject:
            self.unit.drop_after(mark)
            raise
        except Exception as failure:
            self.unit.drop_after(mark)
            self.unit.failure = failure
            self.unit.decision = self._decide(failure)
            if isinstance(self.unit.decision, TryAgain):
                raise task.retry(exc=failure, countdown=self.unit.decision.delay_seconds) from failure
            raise
        self.returned = self.unit.mark()
        return value

    def run_plainly(self, task: Any) -> bool:
        """The same where Celery's tracer would only look on; False when the tracer has something to say."""
        try:
            value = self.call_once(task, self.call.arguments)
        except Exception as failure:
            self.raised = failure
            return False
        self.begun, self.returned = True, self.unit.mark()
        try:
            columns = result_columns(value, "SUCCESS", None)
        except Exception:
            self.stored = value  # the tracer says what becomes of a result that cannot be stored
            return False
        self.unit.results.append(StoredResult(self.call.task_id, "SUCCESS", columns, value))
        return True

    def call_once(self, task: Any, arguments: dict[str, Any]) -> Any:
        """Call the user's function; after doubt only when the other side was asked, or takes our key twice."""
        options = task.reliable_options
        if self.doubt and options.effects is Effects.EXTERNAL:
            if isinstance(options.on_uncertain, Probe):
                with self.steps.heartbeat():
                    answer = options.on_uncertain.ask(self.call.key, **arguments)
                if answer is Probe.UNKNOWN:
                    raise UncertainEffect(f"the other side cannot tell whether {self.call.key} happened")
                if answer is not Probe.NOT_DONE:
                    return to_wire(answer)
                self.doubt = False
            elif not isinstance(options.on_uncertain, CallAgain):
                raise UncertainEffect(
                    f"an earlier execution of {self.call.key} ended without saying whether its call happened",
                    hint="ask the other side, then settle it; or declare a Probe or CallAgain",
                )
        with self.steps.heartbeat(), self.steps.work() as work:
            context = TaskContext(
                task_id=self.call.task_id,
                idempotency_key=self.call.key or "",
                attempt=self.owned.attempt,
                fence=self.owned.fence,
                replay=self.call.replay,
                task=task,
                _work=work if options.effects is Effects.DATABASE else None,
                _unit=self.unit,
            )
            if failpoints.ACTIVE and options.effects is Effects.EXTERNAL:
                failpoints.reach("ext.after_intent")
            try:
                value = to_wire(task.call_function(context, arguments))
            finally:
                self.unit.returned = True
            if failpoints.ACTIVE and options.effects is Effects.EXTERNAL:
                failpoints.reach("ext.after_call")
            return value

    def _decide(self, failure: BaseException) -> Any:
        options = self.call.options
        assert options is not None
        return decide(
            failure,
            self.owned.attempt,
            options.retry,
            may_have_acted=options.effects is Effects.EXTERNAL and options.on_uncertain is None,
        )


current_execution: ContextVar[Execution | None] = ContextVar("reliable_tasks_execution", default=None)


def execute(steps: Any, call: Call, owned: Owned) -> Outcome:
    """Run a claimed call; the outcome holds its rows and everything it sent, for one commit."""
    if failpoints.ACTIVE:
        failpoints.reach("worker.after_claim")
    outcome = _outcome(call, Execution(call, owned, steps))
    if failpoints.ACTIVE:
        failpoints.reach("worker.after_effect")
    return outcome


def execute_stored(call: Call, first: str, stored: dict[str, Any] | None) -> Outcome:
    """Let a duplicate end as the first one did: the stored result, and its own callbacks and chain."""
    value = call.task.backend.decode(bytes(stored["result"])) if stored and stored["result"] else None
    outcome = _outcome(call, Execution(call, Owned(0, 0, False, False), stored=value))
    outcome.suppressed, outcome.claim_state, outcome.attempt = "duplicate", None, None
    if outcome.state is TaskState.SUCCEEDED:
        outcome.state, outcome.values["duplicate_of"] = TaskState.DUPLICATE, first
    return outcome


def _outcome(call: Call, execution: Execution) -> Outcome:
    request = {
        **call.delivery.request,
        "args": call.args,
        "kwargs": call.kwargs,
        "is_eager": False,
        **call.embed,
    }
    started_at = now()
    unit_token = current_unit.set(execution.unit)
    execution_token = current_execution.set(execution)
    logged = bind_contextvars(task_id=call.task_id, idempotency_key=call.key, attempt=execution.owned.attempt)
    try:
        value, info, _seconds, _text = _traced(call, execution, request)
        if execution.returned is not None and info is not None and info.state == "FAILURE":
            _fail_after_all(call, execution, info.retval, getattr(value, "traceback", None))
        elif info is not None and info.state == "IGNORED" and ignored(call, execution) is TaskState.FAILED:
            _undo(execution)
    finally:
        reset_contextvars(**logged)
        current_execution.reset(execution_token)
        current_unit.reset(unit_token)
    outcome = Outcome(unit=execution.unit)
    classify(outcome, call, execution, info)
    fill(outcome, call, execution, started_at)
    return outcome


class _Request(Context):
    """As Celery's; what headers it has beyond Celery's own is looked for when somebody asks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.update(*args, **kwargs)

    @cached_property
    def headers(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._get_custom_headers(vars(self))
        return found


def _traced(call: Call, execution: Execution, request: dict[str, Any]) -> Any:
    """What Celery's tracer makes of it; nobody is missing it where nobody looks and nothing follows."""
    if execution.stored is _NOTHING and is_plain(call):
        _task_stack.push(call.task)
        call.task.request_stack.push(_Request(request, called_directly=False))
        try:
            if execution.run_plainly(call.task):
                return None, None, None, None
        finally:
            call.task.request_stack.pop()
            _task_stack.pop()
    return call.task.__trace__(call.task_id, call.args, call.kwargs, request)


def _undo(execution: Execution) -> None:
    """Take back what the function did, as far as that can be done."""
    unit = execution.unit
    if execution.steps.one_transaction:
        unit.drop_after(0)
    elif execution.returned is not None:
        unit.drop_after(execution.returned)
    execution.steps.undo()


def _fail_after_all(call: Call, execution: Execution, failure: BaseException, traceback: str | None) -> None:
    """The function has returned, but its result cannot be stored, or what follows it in a chain not be sent.

    A dead task may be replayed, so its database effect must not stay. A call to something outside stays, with
    what its function has sent.
    """
    _undo(execution)
    execution.unit.results.clear()
    request = Context(
        {**call.delivery.request, **call.embed}, args=call.args, kwargs=call.kwargs, called_directly=False
    )
    call.task.backend.mark_as_failure(call.task_id, failure, traceback, request=request, store_result=True)
