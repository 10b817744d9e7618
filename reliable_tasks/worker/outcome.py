"""How one delivery ended: the rows that say so, and what the broker is told after they are committed."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from reliable_tasks.model.states import TaskState
from reliable_tasks.worker.unit import UnitOfWork


class Settlement(StrEnum):
    """What the parent does with the delivery."""

    ACK = "ack"
    REJECT = "reject"
    REQUEUE = "requeue"


@dataclass
class Outcome:
    """One delivery's end.

    Args:
        state: the task's new state; None leaves its row alone.
        claim_state: the claim's new state, when this execution owned it.
        attempt: the attempt's row, when there was an execution.
        dead_reason: why it is a dead letter, when it is one.
        unverified: nobody of ours has signed the message, so nothing in it is believed, its id least of all.
        suppressed: kind of delivery that ran nothing (see the suppressed_deliveries table).
        app: the application of the task, where there is one.
        chord: the body that is sent when the task was the last part of its chord.
    """

    settlement: Settlement = Settlement.ACK
    state: TaskState | None = None
    claim_state: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    attempt: dict[str, Any] | None = None
    dead_reason: str | None = None
    unverified: bool = False
    suppressed: str | None = None
    may_have_acted: bool = False
    app: Any = None
    chord: Any = None
    unit: UnitOfWork = field(default_factory=UnitOfWork)
