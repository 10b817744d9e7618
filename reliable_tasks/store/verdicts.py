"""What is asked of a claim, and what it answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID


@dataclass(frozen=True)
class ClaimRequest:
    """Who wants which key, for which payload and how long.

    Args:
        fingerprint: SHA-256 over task name and arguments; another value under the same key is a conflict.
        replay: the message's replay number; a dead claim opens only for a higher one than it has seen.
        may_act: the execution is about to call something outside.
        sent_at: when the message was sent first; None when it does not say.
    """

    task_name: str
    key: str
    fingerprint: bytes
    task_id: str
    owner: UUID
    lease: timedelta
    replay: int = 0
    may_act: bool = False
    sent_at: datetime | None = None


@dataclass(frozen=True)
class Owned:
    """The caller owns the key now. `may_have_acted`: an earlier attempt began a call and never said how it ended."""

    fence: int
    attempt: int
    may_have_acted: bool
    takeover: bool


@dataclass(frozen=True)
class Done:
    """The key has succeeded, by the task `task_id`."""

    task_id: str


@dataclass(frozen=True)
class Busy:
    """Another execution owns the key, until then unless it extends its lease."""

    until: datetime


@dataclass(frozen=True)
class Conflict:
    """The key belongs to another payload, first sent as `task_id`."""

    task_id: str


@dataclass(frozen=True)
class Closed:
    """The key has ended otherwise (dead, uncertain, failed, discarded) and only a replay opens it."""

    state: str
    task_id: str


@dataclass(frozen=True)
class BeyondRetention:
    """The key is not known, and may be forgotten: the message was sent before the watermark."""

    sent_at: datetime
    watermark: datetime


Verdict = Owned | Done | Busy | Conflict | Closed | BeyondRetention
