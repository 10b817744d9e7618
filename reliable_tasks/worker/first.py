"""First executions, of usual deliveries: what a claim that nobody holds would be given, and what came of it."""

from dataclasses import dataclass
from typing import Any

from reliable_tasks.model.states import TaskState
from reliable_tasks.store.identity import own_id
from reliable_tasks.store.verdicts import Owned
from reliable_tasks.worker.call import Call, Delivery, decode, verify
from reliable_tasks.worker.outcome import Outcome
from reliable_tasks.worker.plain import follows

FIRST = Owned(fence=1, attempt=1, may_have_acted=False, takeover=False)
"""What a key that nobody knows is given."""


@dataclass(frozen=True)
class Ahead:
    """An execution whose claim is still to be taken."""

    call: Call
    outcome: Outcome

    def fits(self, verdict: Owned) -> bool:
        """Whether this is what the owner of that claim would have done."""
        return verdict == FIRST

    @property
    def simple(self) -> bool:
        """Whether it has succeeded, and said nothing of other tasks, and of chords."""
        unit = self.outcome.unit
        ids = {stored.task_id for stored in unit.results}
        return self.outcome.state is TaskState.SUCCEEDED and ids <= {self.call.task_id} and not unit.chords

    def row(self) -> dict[str, Any]:
        """The columns of its result, for those who write several at once."""
        return {
            **self.outcome.values,
            "task_id": self.call.task_id,
            "fingerprint": self.call.fingerprint,
        }


def usual_call(app: Any, delivery: Delivery, *, part: bool = False, task: Any = None) -> Call | None:
    """The call of a usual delivery that nothing follows; None when it is for `trace` to say what becomes of it.

    Args:
        part: whether it may be a part of a chord, and have an id that is not ours.
        task: the delivery's, where it is known.
    """
    try:
        verify(app.runtime, delivery)
        call = decode(delivery, task or app.tasks[delivery.task_name])
    except Exception:
        return None  # whatever it is: by itself it meets the same again, and only that
    if part:
        return None if follows(call) else call
    return None if any(call.embed.values()) or own_id(call.task_id) is None else call
