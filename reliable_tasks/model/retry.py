"""What follows a failed attempt: decided by a pure function from the failure, the attempt and the policy."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from reliable_tasks.errors import PermanentError, ShapeError, TransientError, UncertainEffect


class Effects(StrEnum):
    """What a task does to the world: rows of our database, something outside, or nothing."""

    DATABASE = "database"
    EXTERNAL = "external"
    NONE = "none"


@dataclass(frozen=True)
class Retry:
    """How often and how fast a failed task is tried again.

    Args:
        max_attempts: executions in all, the first included; at least 1.
        base_seconds: delay before the second attempt.
        factor: each further delay is this many times the one before.
        max_seconds: no delay is longer.
        jitter: share of the delay that is random, 0 to 1 (1 is "full jitter", after
            https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        transient: exception types that are worth another attempt.
        permanent: exception types that are not, even when a base class of theirs is transient.

    Raises:
        ShapeError: when a number makes no sense.
    """

    max_attempts: int = 5
    base_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 300.0
    jitter: float = 0.5
    transient: tuple[type[BaseException], ...] = (Exception,)
    permanent: tuple[type[BaseException], ...] = (TypeError, ValueError, KeyError, AttributeError)

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.base_seconds < 0 or self.factor < 1 or not 0 <= self.jitter <= 1:
            raise ShapeError(
                f"a retry policy of {self.max_attempts} attempts, base {self.base_seconds} s, "
                f"factor {self.factor}, jitter {self.jitter} cannot be kept",
                hint="max_attempts >= 1, base_seconds >= 0, factor >= 1, jitter between 0 and 1",
            )

    def delay_seconds(self, attempt: int, chance: Callable[[], float] = random.random) -> float:
        """Seconds to wait after failed attempt number `attempt` (1 is the first).

        delay = min(max, base * factor ** (attempt - 1)), of which `jitter` is scaled by chance.
        """
        exponent = min(attempt - 1, 64)
        full = min(self.max_seconds, self.base_seconds * self.factor**exponent)
        return full * (1 - self.jitter) + full * self.jitter * chance()


@dataclass(frozen=True)
class TryAgain:
    """Another attempt, after so many seconds."""

    delay_seconds: float


@dataclass(frozen=True)
class DeadLetter:
    """No further attempt without an operator."""

    reason: str


@dataclass(frozen=True)
class Park:
    """Nobody can tell whether the external call happened: `uncertain`."""

    reason: str = "uncertain"


Decision = TryAgain | DeadLetter | Park


def decide(
    failure: BaseException,
    attempt: int,
    policy: Retry,
    *,
    may_have_acted: bool = False,
    chance: Callable[[], float] = random.random,
) -> Decision:
    """What to do after `failure` of attempt number `attempt`.

    Args:
        may_have_acted: the task calls something outside that neither knows our key nor can be asked;
            then only a failure that says that nothing happened may be tried again.
    """
    if isinstance(failure, UncertainEffect):
        return Park()
    says_nothing_happened = isinstance(failure, (TransientError, PermanentError))
    if may_have_acted and not says_nothing_happened:
        return Park()
    if isinstance(failure, PermanentError):
        return DeadLetter("permanent")
    if not isinstance(failure, TransientError) and (
        isinstance(failure, policy.permanent) or not isinstance(failure, policy.transient)
    ):
        return DeadLetter("permanent")
    if attempt >= policy.max_attempts:
        return DeadLetter("exhausted")
    return TryAgain(policy.delay_seconds(attempt, chance))
