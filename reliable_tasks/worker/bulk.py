"""Many signatures at once: published with pipelined confirms, and of each is said what it came to."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from celery.canvas import Signature

from reliable_tasks.broker.confirms import Outcomes
from reliable_tasks.errors import BrokerUnreachable, NotAllPublished, NotSent, PublishUnconfirmed
from reliable_tasks.model.envelope import Message
from reliable_tasks.worker.messages_alike import Alike, alike_of, nobody_interferes, settings_are_usual
from reliable_tasks.worker.publishing import is_collected, redirect

_WITHOUT_OPTIONS = frozenset({"task_id"})
_PART = 10_000
"""Signatures whose messages are kept in memory until it is known what they came to."""


@dataclass(slots=True)
class Unsent:
    """A signature on its way, and what of it was not taken. `publish_many` takes it to send just that again."""

    signature: Any
    messages: Sequence[Message] = ()
    """Empty when none could be made."""

    result: Any = None
    error: Exception | None = None
    failed: tuple[Message, ...] = ()

    def fail(self, message: Message, why: Exception) -> None:
        """A message of it was not taken."""
        self.failed += (message,)
        self.error = self.error or why


def publish_many(app: Any, signatures: Iterable[Any]) -> list[Any]:
    """See `ReliableCelery.publish_many`."""
    left = (_begun(one) for one in signatures)
    bulk, all_of_them = _Bulk(app), list[Unsent]()
    while part := list(islice(left, _PART)):
        all_of_them += part
        bulk.send(part)
    wrong = [one for one in all_of_them if one.error is not None]
    if wrong:
        raise NotAllPublished(
            f"{len(wrong)} of {len(all_of_them)} signatures were not taken, or nobody knows: {wrong[0].error}",
            hint="`outcomes` says of each what happened; `publish_many(error.unsent)` sends just those again",
            outcomes=[one.error for one in all_of_them],
            results=[one.result for one in all_of_them],
            unsent=[Unsent(one.signature, one.failed, one.result) for one in wrong],
        ) from wrong[0].error
    return [one.result for one in all_of_them]


def _begun(one: Any) -> Unsent:
    return one if isinstance(one, Unsent) else Unsent(one)


class _Bulk:
    """One call of `publish_many`."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._tasks = app.tasks
        self._collected = is_collected() or app.conf.task_always_eager
        self._plainly = (
            app.sends_plainly and not self._collected and settings_are_usual(app) and nobody_interferes(app)
        )
        self._alike: dict[str, Alike | None] = {}
        self._stopped: Exception | None = None

    def send(self, part: Sequence[Unsent]) -> None:
        """Send them, unless there was a doubt before."""
        later: list[tuple[Unsent, Message]] = []
        owners: list[Unsent] = []
        at_once: list[Message] = []
        outcomes = self._published(self._made(part, owners, at_once, later))
        for one, message, outcome in zip(owners, at_once, outcomes, strict=True):
            if outcome is not None:
                one.fail(message, outcome)
        if later:
            try:
                self._app.runtime.keep([message for _, message in later])
            except Exception as why:
                for one, message in later:
                    one.fail(message, why)

    def _made(
        self,
        part: Sequence[Unsent],
        owners: list[Unsent],
        at_once: list[Message],
        later: list[tuple[Unsent, Message]],
    ) -> Iterator[Message]:
        """The messages that may go at once, made as they are asked for; each of all is in one of the lists."""
        for one in part:
            try:
                messages = one.messages or self._messages(one)
            except Exception as why:
                one.error = why
                continue
            for message in messages:
                if message.due_at is None and message.delay is None:
                    owners.append(one)
                    at_once.append(message)
                    yield message
                else:
                    later.append((one, message))

    def _messages(self, one: Unsent) -> Sequence[Message]:
        """What a signature sends; nothing when that has gone its way already."""
        signature = one.signature
        if self._collected:
            one.result = signature.apply_async()
            return ()
        task = self._plain_task(signature) if self._plainly else None
        alike = self._alike.get(task.name) if task else None
        if alike is not None:
            one.result, message = alike.made(
                signature.get("args"), signature.get("kwargs"), signature["options"].get("task_id")
            )
            return (message,)
        messages: list[Message] = []
        with redirect(messages.append):
            one.result = signature.apply_async()
        if task is not None and task.name not in self._alike:
            args, kwargs = signature.args, signature.kwargs
            self._alike[task.name] = alike_of(task, messages, one.result, args, kwargs)
        return messages

    def _plain_task(self, signature: Any) -> Any:
        """The task, when all its signatures like this one have messages that are alike."""
        if type(signature) is not Signature or not signature["options"].keys() <= _WITHOUT_OPTIONS:
            return None
        task = self._tasks.get(signature["task"])
        if task is None or signature.type is not task:
            return None
        return task if task.name in self._alike or getattr(task, "sends_plainly", False) else None

    def _published(self, messages: Iterator[Message]) -> Sequence[Exception | None]:
        if self._stopped is None:
            try:
                outcomes: Outcomes = self._app.runtime.publisher.publish_all(messages)
            except BrokerUnreachable as away:
                self._stopped = away
                return [away, *(away for _ in messages)]
            if any(isinstance(outcome, (PublishUnconfirmed, NotSent)) for outcome in outcomes):
                self._stopped = NotSent(
                    "it was not sent: the broker did not answer for those before it",
                    hint="send it again when the broker is well",
                )
            return outcomes
        return [self._stopped for _ in messages]
