"""The states of a task and of a dead letter, and which may follow which.

Enforced three times: by these tables, by conditional UPDATEs in `store`, by CHECK constraints in the schema.
"""

from enum import StrEnum

from reliable_tasks.errors import IllegalTransition


class TaskState(StrEnum):
    """Where a task is. The first three wait or run; every other is an end, or waits for a person."""

    ENQUEUED = "enqueued"
    RUNNING = "running"
    RETRY_WAIT = "retry_wait"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DISCARDED = "discarded"
    DUPLICATE = "duplicate"


class DeadLetterState(StrEnum):
    """Where a dead letter is."""

    OPEN = "open"
    REPLAYING = "replaying"
    RESOLVED = "resolved"
    DEAD_AGAIN = "dead_again"
    DISCARDED = "discarded"


_S = TaskState
TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    _S.ENQUEUED: frozenset(_S) - {_S.ENQUEUED, _S.DISCARDED},
    # cancelled: only by Celery's `revoke(terminate=True)`, which kills the process
    _S.RUNNING: frozenset(_S) - {_S.ENQUEUED, _S.EXPIRED, _S.DISCARDED},
    _S.RETRY_WAIT: frozenset(_S) - {_S.ENQUEUED, _S.DISCARDED},
    _S.DEAD: frozenset({_S.ENQUEUED, _S.DISCARDED}),
    _S.UNCERTAIN: frozenset({_S.ENQUEUED, _S.SUCCEEDED, _S.FAILED, _S.DEAD}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.DISCARDED: frozenset({_S.DEAD}),
    _S.DUPLICATE: frozenset(),
}

WAITING = frozenset({_S.ENQUEUED, _S.RUNNING, _S.RETRY_WAIT})
ENDS = frozenset(_S) - WAITING

DEAD_LETTER_TRANSITIONS: dict[DeadLetterState, frozenset[DeadLetterState]] = {
    DeadLetterState.OPEN: frozenset({DeadLetterState.REPLAYING, DeadLetterState.DISCARDED}),
    DeadLetterState.REPLAYING: frozenset({DeadLetterState.RESOLVED, DeadLetterState.DEAD_AGAIN}),
    DeadLetterState.RESOLVED: frozenset(),
    DeadLetterState.DEAD_AGAIN: frozenset(),
    DeadLetterState.DISCARDED: frozenset({DeadLetterState.OPEN}),
}

CELERY_STATES: dict[TaskState, str] = {
    _S.ENQUEUED: "PENDING",
    _S.RUNNING: "STARTED",
    _S.RETRY_WAIT: "RETRY",
    _S.SUCCEEDED: "SUCCESS",
    _S.DUPLICATE: "SUCCESS",
    _S.DEAD: "FAILURE",
    _S.UNCERTAIN: "FAILURE",
    _S.FAILED: "FAILURE",
    _S.DISCARDED: "FAILURE",
    _S.CANCELLED: "REVOKED",
    _S.EXPIRED: "REVOKED",
}
"""What Celery's clients are shown."""


def sources(target: TaskState) -> tuple[TaskState, ...]:
    """The states from which `target` may be reached, for the WHERE of a conditional UPDATE."""
    return tuple(state for state, targets in TRANSITIONS.items() if target in targets)


def advance(current: TaskState, target: TaskState) -> TaskState:
    """`target`, when it may follow `current`.

    Raises:
        IllegalTransition: when it may not.
    """
    if target not in TRANSITIONS[current]:
        raise IllegalTransition(f"a task that is {current} cannot become {target}")
    return target
