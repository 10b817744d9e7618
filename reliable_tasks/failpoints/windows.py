"""The places where a process can be made to fail, and what a careless program would lose or double in each."""

from dataclasses import dataclass
from enum import StrEnum

from reliable_tasks.errors import DatabaseUnreachable


class Side(StrEnum):
    """Whose answer is lost in a window."""

    DATABASE = "database"
    BROKER = "broker"

    def outage(self, window: str) -> Exception:
        """The error that an outage of this side would be."""
        told = f"failpoint {window}: the answer of the {self} is lost"
        if self is Side.BROKER:
            return ConnectionResetError(told)
        return DatabaseUnreachable(told, hint="unset RELIABLE_TASKS_FAILPOINT")


@dataclass(frozen=True)
class Window:
    """One place.

    Args:
        name: `who.where`.
        side: whose answer `raise_after` loses.
        means: what is done and what is not, and what a crash here must not do.
        until: the window behind the step that this one stands before; `raise_after` raises there. Empty where the
            step is already done.
        reset: whether there is a connection to reset.
    """

    name: str
    side: Side
    means: str
    until: str = ""
    reset: bool = False


_DB, _MQ = Side.DATABASE, Side.BROKER

_TABLE = (
    Window(
        "pub.before_commit",
        _DB,
        "Messages are rows of a transaction that is not committed: none of them may ever be sent.",
        until="pub.after_commit",
        reset=True,
    ),
    Window("pub.after_commit", _DB, "Committed, and the sender does not know: each must be sent, once."),
    Window(
        "publish.before_confirm",
        _MQ,
        "A window of messages is sent, by a sender or the relay, and none is confirmed: each may have been taken.",
        until="publish.after_confirm",
        reset=True,
    ),
    Window(
        "publish.after_confirm",
        _MQ,
        "All confirms are read, and the caller does not know: the relay sends them again, under the same task ids.",
    ),
    Window(
        "relay.after_select", _DB, "Due rows are read and nothing is sent: another relay may lead meanwhile."
    ),
    Window(
        "relay.after_confirm",
        _DB,
        "The broker holds the messages and the outbox does too: each is sent again.",
    ),
    Window(
        "relay.before_mark",
        _DB,
        "The rows are deleted in a transaction that is not committed: each is sent again.",
        until="relay.after_mark",
        reset=True,
    ),
    Window(
        "relay.after_mark", _DB, "The rows are gone: in the other order, the messages would be lost here."
    ),
    Window(
        "worker.after_verify", _DB, "Verified and decoded, nothing claimed: the broker must deliver it again."
    ),
    Window(
        "worker.after_claim",
        _DB,
        "The key is owned, nothing is done: a claim that outlived its owner must open again.",
    ),
    Window(
        "worker.after_effect",
        _DB,
        "The function has returned: a database effect must go with its transaction, an outside one is in doubt.",
    ),
    Window(
        "worker.before_commit",
        _DB,
        "Claim, effect, result and messages are written, not committed: all of them go, and the task comes again.",
        until="worker.after_commit_before_ack",
        reset=True,
    ),
    Window(
        "worker.after_commit_before_ack",
        _DB,
        "All is committed and the broker does not know: the redelivery must not do it twice.",
    ),
    Window(
        "worker.parent_before_settle",
        _MQ,
        "The pool process has answered, the delivery is not settled: it comes again, to the same end.",
        until="worker.parent_after_settle",
        reset=True,
    ),
    Window(
        "worker.parent_after_settle",
        _MQ,
        "The answer is on its way to the broker, or is lost with the socket.",
    ),
    Window(
        "ext.after_intent",
        _DB,
        "The claim says that a call begins, and it has not: the next execution must find out.",
    ),
    Window(
        "ext.after_call",
        _DB,
        "The other system has acted and nothing here says so: never a blind second call.",
    ),
    Window(
        "ext.before_outcome_commit",
        _DB,
        "The call's outcome is written, not committed: as after the call.",
        until="ext.after_outcome_commit",
        reset=True,
    ),
    Window(
        "ext.after_outcome_commit",
        _DB,
        "The outcome is committed and this process does not know: it must not be recorded, or called, twice.",
    ),
    Window(
        "collector.after_fetch",
        _MQ,
        "Dead letters are taken and nobody has kept them: the broker must hold them.",
    ),
    Window(
        "collector.before_commit",
        _DB,
        "Dead letters are written, not committed: acked now, they would be lost.",
        until="collector.after_commit_before_ack",
        reset=True,
    ),
    Window(
        "collector.after_commit_before_ack", _DB, "Kept and not acked: they come again and are the same rows."
    ),
    Window(
        "replay.after_intent",
        _DB,
        "A dead letter has moved and its message is written, not committed: both or neither.",
        until="replay.after_commit",
        reset=True,
    ),
    Window(
        "replay.after_commit",
        _DB,
        "Replayed, and the operator does not know: replaying it again must do nothing.",
    ),
)

WINDOWS: dict[str, Window] = {window.name: window for window in _TABLE}
"""All windows, in the order of a message's way."""
