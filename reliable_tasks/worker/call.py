"""A delivery as the pool gets it, and what verifying and decoding make of it."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reliable_tasks.errors import ArgumentError, Oversize, Undecodable
from reliable_tasks.model.envelope import Message, replay_number, without_history
from reliable_tasks.model.headers import moment
from reliable_tasks.model.signing import CameBy, sent_at
from reliable_tasks.worker.arguments import fingerprint
from reliable_tasks.worker.body import read_body
from reliable_tasks.worker.options import TaskOptions
from reliable_tasks.worker.runtime import Runtime

ACCEPTED = "application/json"


@dataclass(frozen=True)
class Delivery:
    """What the parent hands to the pool: the message's bytes and headers, and Celery's request."""

    task_name: str
    task_id: str
    request: dict[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    queue: str
    begun: int = 0
    """How often this very delivery was begun before: the database went away, no process died of it."""

    @property
    def redelivered(self) -> bool:
        return bool((self.request.get("delivery_info") or {}).get("redelivered"))

    @property
    def came_by(self) -> CameBy:
        """The exchange and routing key of its publishing."""
        info = self.request.get("delivery_info") or {}
        return CameBy(str(info.get("exchange") or ""), str(info.get("routing_key") or ""))

    @property
    def can_come_again(self) -> bool:
        """Whether there is a message: a call in this process has none."""
        return bool(self.body)

    def message(self) -> Message:
        """The message as it could be sent again, without the broker's history."""
        properties = {
            "content_type": self.content_type,
            "content_encoding": self.content_encoding,
            "correlation_id": self.request.get("correlation_id"),
            "reply_to": self.request.get("reply_to"),
        }
        return Message(
            task_id=self.task_id,
            task_name=self.task_name,
            exchange="",
            routing_key="",
            queue=self.queue,
            body=self.body,
            headers=without_history(self.headers),
            properties={name: value for name, value in properties.items() if value is not None},
            priority=self.request.get("rt_priority"),
        )

    def message_begun(self) -> Message:
        """The same once its task has begun, whose time is over no more: what it did must not end as `expired`."""
        message = self.message()
        headers = {name: value for name, value in message.headers.items() if name not in ("expires", "eta")}
        return replace(message, headers=headers)


def delivery_of(
    app: Any,
    task_name: str,
    task_id: str,
    request: dict[str, Any],
    body: bytes,
    content_type: str,
    content_encoding: str,
    headers: dict[str, Any],
    broker_priority: int | None,
) -> Delivery:
    """The delivery that the parent's arguments to the pool mean."""
    routing_key = (request.get("delivery_info") or {}).get("routing_key", "")
    queue, level = app.queue_and_level(request.get("rt_queue") or routing_key, broker_priority)
    request = {**request, "rt_priority": level}
    return Delivery(task_name, task_id, request, body, content_type, content_encoding, headers, queue)


@dataclass
class Call:
    """A verified and decoded delivery: which task, with which arguments, under which key.

    Args:
        arguments: by name, as the function's annotations have them; none of a task without a key.
    """

    delivery: Delivery
    task: Any
    options: TaskOptions | None
    args: list[Any]
    kwargs: dict[str, Any]
    embed: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    fingerprint: bytes = b""
    not_before: datetime | None = None
    expires_at: datetime | None = None

    @property
    def task_id(self) -> str:
        return self.delivery.task_id

    @property
    def sent_at(self) -> datetime | None:
        return sent_at(self.delivery.headers)

    @property
    def replay(self) -> int:
        return replay_number(self.delivery.headers)


def verify(runtime: Runtime, delivery: Delivery) -> None:
    """Refuse what must not even be decoded. Whose message it is comes first: until then, not even its id is true.

    Raises:
        Unsigned, BadSignature: when signing is on, and it is not signed for this queue by a key of ours.
        Oversize: when its body is larger than what may be sent.
        Undecodable: when it is compressed, or its content type is not JSON: no other decoder is safe to run on
            foreign bytes.
    """
    if runtime.signer.on:
        runtime.signer.verify(delivery.message(), delivery.came_by)
    limit = runtime.settings.max_body_bytes
    if len(delivery.body) > limit:
        raise Oversize(
            f"task {delivery.task_id} has a body of {len(delivery.body)} bytes, the limit is {limit}",
            hint="RELIABLE_TASKS_MAX_BODY_BYTES is the limit; its sender should store the data and send its key",
        )
    if delivery.headers.get("compression"):
        raise Undecodable(
            f"task {delivery.task_id} is compressed: a few bytes could become more than the memory holds",
            hint="send it as it is; task_compression is not supported",
        )
    if delivery.content_type != ACCEPTED:
        raise Undecodable(
            f"task {delivery.task_id} has content type {delivery.content_type}", hint=f"send {ACCEPTED}"
        )


def decode(delivery: Delivery, task: Any) -> Call:
    """Bytes to arguments, by the task's own annotations.

    Raises:
        Undecodable: when the body is no JSON of the shape (args, kwargs, embed), or the arguments do not fit.
    """
    args, kwargs, embed = read_body(delivery.body, delivery.content_encoding)
    call = Call(delivery, task, getattr(task, "reliable_options", None), args, kwargs, embed)
    call.not_before = _moment(delivery.request.get("eta"))
    call.expires_at = _moment(delivery.request.get("expires"))
    if call.options is None:
        return call
    try:
        call.arguments = task.reliable_arguments.bind(call.args, call.kwargs)
        call.key = call.options.key_for(call.arguments)
        call.fingerprint = fingerprint(task.name, task.reliable_arguments.told(call.arguments))
    except ArgumentError as error:
        raise Undecodable(f"task {delivery.task_id}: {error.message}", hint=error.hint) from error
    except Exception as error:
        # a class of the application's own, made from what has come
        raise Undecodable(
            f"the arguments of task {delivery.task_id} cannot be used: {type(error).__name__}: {error}",
            hint="compare them with the function's annotations",
        ) from error
    return call


def _moment(text: Any) -> datetime | None:
    try:
        return moment(text) if text else None
    except (TypeError, ValueError) as error:
        raise Undecodable(f"{text!r} is no time", hint="send eta and expires as ISO 8601") from error
