"""Every error the framework raises: one root, a stable code each, and a hint that says what to do.

ReliableTasksError
+-- ConfigurationError          RT1xx  a setting, an option or an argument is wrong
|   +-- SettingError            RT101
|   +-- ShapeError              RT102  a topology that cannot be built
|   +-- TaskDeclarationError    RT103  a decorator's options contradict each other
|   +-- ArgumentError           RT104  a task argument that cannot travel
|   +-- InputFileError          RT105  a file is missing or malformed
+-- ServiceError                RT2xx  something outside does not do what it must
|   +-- BrokerUnreachable       RT201
|   +-- DatabaseUnreachable     RT202
|   +-- MigrationMissing        RT203
|   +-- TopologyDrift           RT204
|   +-- ServiceStartError       RT205  a private service did not start
+-- PublishError                RT3xx  the broker did not take a message
|   +-- Unroutable              RT301
|   +-- PublishRefused          RT302  nacked: queue full or unavailable
|   +-- PublishUnconfirmed      RT303  unknown: it may have been taken
|   +-- MessageTooLarge         RT304
|   +-- BrokerBlocked           RT305
|   +-- UnknownQueue            RT306
|   +-- NotSent                 RT307  the broker had stopped answering before
|   +-- NotAllPublished         RT308  of many, with what became of each
+-- ExecutionError              RT4xx  what ends or defers an attempt
|   +-- KeyConflict             RT401  same key, other payload
|   +-- Fenced                  RT402  another execution owns the key now
|   +-- UncertainEffect         RT404  an external call may have happened
|   +-- KeyForgotten            RT409  sent before the time from which keys are kept
|   +-- ResultDeleted           RT410  the key was done, and nobody keeps its result
|   +-- TransactionEnded        RT411  the task has committed or rolled back what its claim is in
|   +-- MessageRefused          RT405  a message that is not even looked into
|       +-- Undecodable         RT403
|       +-- Unsigned            RT406  without a signature, where one is required
|       +-- BadSignature        RT407  changed on the way, for another queue, or by an unknown key
|       +-- Oversize            RT408
+-- OperationRefused            RT5xx  an operator's act that may not be done
|   +-- NotFound                RT501
+-- TaskError                   raised by tasks themselves to classify a failure
    +-- TransientError          RT601  nothing happened; try again
    +-- PermanentError          RT602  nothing happened; trying again is useless
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class ReliableTasksError(Exception):
    """Root of all errors.

    Args:
        message: what went wrong and where, one sentence, without secrets.
        hint: what to do about it, one sentence; empty when there is nothing to do.
    """

    code: ClassVar[str] = "RT000"
    exit_code: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(cls: type[ReliableTasksError], message: str, hint: str) -> ReliableTasksError:
    return cls(message, hint=hint)


class ConfigurationError(ReliableTasksError):
    code = "RT100"


class SettingError(ConfigurationError):
    code = "RT101"


class ShapeError(ConfigurationError):
    code = "RT102"


class TaskDeclarationError(ConfigurationError):
    code = "RT103"


class ArgumentError(ConfigurationError):
    code = "RT104"


class InputFileError(ConfigurationError):
    code = "RT105"


class ServiceError(ReliableTasksError):
    code = "RT200"


class BrokerUnreachable(ServiceError):
    code = "RT201"
    exit_code = 7


class DatabaseUnreachable(ServiceError):
    code = "RT202"
    exit_code = 7


class MigrationMissing(ServiceError):
    code = "RT203"


class TopologyDrift(ServiceError):
    code = "RT204"


class ServiceStartError(ServiceError):
    code = "RT205"


class PublishError(ReliableTasksError):
    code = "RT300"


class Unroutable(PublishError):
    code = "RT301"


class PublishRefused(PublishError):
    code = "RT302"


class PublishUnconfirmed(PublishError):
    code = "RT303"


class MessageTooLarge(PublishError):
    code = "RT304"


class BrokerBlocked(PublishError):
    code = "RT305"


class UnknownQueue(PublishError):
    code = "RT306"


class NotSent(PublishError):
    code = "RT307"


class NotAllPublished(PublishError):
    """Some of many signatures were not taken, or nobody knows.

    Args:
        outcomes: of each signature, in order: None when it was taken, or what happened to it.
        results: the AsyncResults, in the same order; None where arguments were refused.
        unsent: what `publish_many` takes to send again just what was not taken, under the same ids.
    """

    code = "RT308"

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        outcomes: Sequence[Exception | None] = (),
        results: Sequence[Any] = (),
        unsent: Sequence[Any] = (),
    ) -> None:
        super().__init__(message, hint)
        self.outcomes = outcomes
        self.results = results
        self.unsent = unsent


class ExecutionError(ReliableTasksError):
    code = "RT400"


class KeyConflict(ExecutionError):
    code = "RT401"


class Fenced(ExecutionError):
    code = "RT402"


class UncertainEffect(ExecutionError):
    code = "RT404"


class KeyForgotten(ExecutionError):
    code = "RT409"


class ResultDeleted(ExecutionError):
    code = "RT410"


class TransactionEnded(ExecutionError):
    code = "RT411"


class MessageRefused(ExecutionError):
    code = "RT405"
    reason: ClassVar[str] = "refused"
    """The dead letter's reason code."""


class Undecodable(MessageRefused):
    code = "RT403"
    reason = "undecodable"


class Unsigned(MessageRefused):
    code = "RT406"
    reason = "unsigned"


class BadSignature(MessageRefused):
    code = "RT407"
    reason = "bad_signature"


class Oversize(MessageRefused):
    code = "RT408"
    reason = "oversize"


class OperationRefused(ReliableTasksError):
    code = "RT500"


class NotFound(OperationRefused):
    code = "RT501"


class TaskError(ReliableTasksError):
    code = "RT600"


class TransientError(TaskError):
    code = "RT601"


class PermanentError(TaskError):
    code = "RT602"
