"""Messages of one task that are alike: the first is made the whole way through Celery, the others are written over it.

Only what differs is made anew: id, arguments, time and signature. All the rest is that of the first.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from celery import signals
from celery.utils.saferepr import saferepr
from kombu.utils.json import JSONEncoder

from reliable_tasks.model.envelope import ENQUEUED_AT, Message
from reliable_tasks.model.signing import SIGNATURE
from reliable_tasks.model.storable import storable
from reliable_tasks.store.identity import new_task_id
from reliable_tasks.worker.publishing import ready_to_go

_encode = JSONEncoder().encode
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_LOUD = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
_SHOWN = dict.fromkeys((type(None), int, bool, float, Decimal, UUID, date, datetime), repr) | {
    str: lambda text: "'" + text.replace("'", "\\'") + "'"
}
"""How Celery shows a value of exactly this type, when there is room for all of it."""


class Alike:
    """Makes messages like one that Celery has made.

    Args:
        first: of this task, in this thread, sent without any options.
        result: what sending it has returned.
    """

    def __init__(self, task: Any, first: Message, result: Any) -> None:
        self._task = task
        self._first = first
        self._ignored = result.ignored
        self._headers = {name: value for name, value in first.headers.items() if name != SIGNATURE}
        self._ids = [name for name, value in self._headers.items() if value == first.task_id]
        self._result, self._backend = task.app.AsyncResult, task.backend
        self._runtime = task.app.runtime
        self._longest = (task.app.amqp.argsrepr_maxsize, task.app.amqp.kwargsrepr_maxsize)
        self._levels = task.app.conf.task_repr_maxlevels

    def is_right(self, args: Any, kwargs: Any) -> bool:
        """Whether it makes of the first arguments exactly what Celery has made of them."""
        first = self._first
        if first.due_at is not None or first.delay is not None or first.expires_at is not None:
            return False
        sent_at = datetime.fromisoformat(first.headers[ENQUEUED_AT])
        return self.message(args, kwargs, first.task_id, sent_at) == first

    def made(self, args: Any, kwargs: Any, task_id: str | None) -> tuple[Any, Message]:
        """The result and the message of these arguments, without options besides an id.

        Raises:
            ArgumentError, MessageTooLarge, TypeError: as `apply_async` does.
        """
        message = self.message(args, kwargs, task_id or new_task_id(), datetime.now(UTC), new=not task_id)
        result = self._result(message.task_id, self._backend, self._task.name)
        result.ignored = self._ignored
        return result, message

    def message(
        self, args: Any, kwargs: Any, task_id: str, sent_at: datetime, *, new: bool = False
    ) -> Message:
        """The message of these arguments.

        Args:
            new: whether the id is one that we have made.
        """
        task = self._task
        args, kwargs = task.for_sending(args, kwargs)
        if task.typing:
            task.__header__(*args, **kwargs)
        longest_args, longest_kwargs = self._longest
        headers = self._headers.copy()
        for name in self._ids:
            headers[name] = task_id
        headers["argsrepr"] = storable(_shown(args, longest_args, self._levels))
        headers["kwargsrepr"] = storable(_shown(kwargs, longest_kwargs, self._levels))
        headers[ENQUEUED_AT] = sent_at.isoformat()
        first = self._first
        message = Message(
            task_id,
            first.task_name,
            first.exchange,
            first.routing_key,
            first.queue,
            _encode((args, kwargs, _EMBED)).encode(),
            headers,
            {**first.properties, "correlation_id": task_id},
            first.priority,
        )
        return ready_to_go(self._runtime, message, sent_at, headers_known=new)


def alike_of(task: Any, messages: Sequence[Message], result: Any, args: Any, kwargs: Any) -> Alike | None:
    """How messages are made like the one that Celery has made of these arguments; None when they cannot be.

    Args:
        messages: what was sent for them.
        result: what sending has returned.
    """
    if len(messages) != 1:
        return None
    found = Alike(task, messages[0], result)
    return found if found.is_right(args, kwargs) else None


def settings_are_usual(app: Any) -> bool:
    """Whether no setting makes two messages of one task differ."""
    return not app.conf.task_routes and not app.conf.task_send_sent_event


def nobody_interferes(app: Any) -> bool:
    """Whether nobody who listens, and no task that runs, can make two messages of one task differ."""
    return not any(signal.receivers for signal in _LOUD) and app.current_worker_task is None


def _shown(value: Any, longest: int, levels: int) -> str:
    """As Celery's saferepr, which takes longer than all else of a message."""
    if not value:
        return "{}" if isinstance(value, dict) else "()"
    if type(value) is list:
        try:
            text = "[" + ", ".join([_SHOWN[type(item)](item) for item in value]) + "]"
        except KeyError:
            pass
        else:
            if len(text) < longest:
                return text
    return str(saferepr(value, longest, maxlevels=levels))
