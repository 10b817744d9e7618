"""The states of a task, of its key's claim and of a dead letter, and which may follow which.

Enforced three times: by these tables, by conditional UPDATEs in `store`, by CHECK constraints and triggers in the
schema. A test goes through all pairs and holds them equal.
"""

from enum import StrEnum


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


class ClaimState(StrEnum):
    """Where an idempotency key is: with an execution, open for the next one, or closed by an end."""

    RUNNING = "running"
    RETRY_WAIT = "retry_wait"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    DISCARDED = "discarded"


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

_C = ClaimState
CLAIM_TRANSITIONS: dict[ClaimState, frozenset[ClaimState]] = {
    # running again: a takeover. Its fence is higher then, as whenever a key begins to run
    _C.RUNNING: frozenset({_C.RUNNING, _C.RETRY_WAIT, _C.SUCCEEDED, _C.DEAD, _C.UNCERTAIN, _C.FAILED}),
    _C.RETRY_WAIT: frozenset({_C.RUNNING}),
    # running: only by a replay of a higher number than the claim has seen
    _C.DEAD: frozenset({_C.RUNNING, _C.DISCARDED}),
    _C.UNCERTAIN: frozenset({_C.SUCCEEDED, _C.FAILED, _C.DEAD}),
    _C.SUCCEEDED: frozenset(),
    _C.FAILED: frozenset(),
    _C.DISCARDED: frozenset({_C.DEAD}),
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


def celery_state(state: str, own: str | None) -> str:
    """What Celery's clients are shown of a stored state, and of a state of the task's own such as PROGRESS."""
    return own or CELERY_STATES[TaskState(state)]


def sources(target: TaskState) -> tuple[TaskState, ...]:
    """The states from which `target` may be reached, for the WHERE of a conditional UPDATE."""
    return tuple(state for state, targets in TRANSITIONS.items() if target in targets)
