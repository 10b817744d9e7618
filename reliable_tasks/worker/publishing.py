"""The one seam through which everything is sent: Celery hands a message to `Sender.publish` instead of kombu.

Here it is measured and signed, before it goes its way.
`app.enqueue` writes messages into its caller's transaction; a running task's join its unit of work;
all others are published with a confirm, or wait in the outbox when they are due later.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kombu.serialization import dumps

from reliable_tasks.errors import ArgumentError, MessageTooLarge, Undecodable
from reliable_tasks.model.envelope import CORRELATION_ID, ENQUEUED_AT, REPLAY, Message
from reliable_tasks.model.headers import check_headers
from reliable_tasks.model.storable import storable_json
from reliable_tasks.store.chords import NewChord
from reliable_tasks.worker.body import check_body
from reliable_tasks.worker.runtime import Runtime
from reliable_tasks.worker.serializers import refuse_serializer
from reliable_tasks.worker.unit import current_unit

Sink = Callable[[Message], None]

_WINDOW = 500


@dataclass(frozen=True)
class Due:
    """When a message may go: at a time, or so long after it was written; both None is at once."""

    at: datetime | None = None
    after: timedelta | None = None


redirected: ContextVar[Sink | None] = ContextVar("reliable_tasks_sink", default=None)
"""Where this context's messages go instead: the outbox of a caller's transaction."""


chord_sink: ContextVar[Callable[[NewChord], None] | None] = ContextVar("reliable_tasks_chords", default=None)
"""The same for the chords whose headers are among them."""


@contextmanager
def redirect(sink: Sink, chords: Callable[[NewChord], None] | None = None) -> Iterator[None]:
    """Hand every message sent inside to `sink`, and every chord to `chords`."""
    token, chord_token = redirected.set(sink), chord_sink.set(chords)
    try:
        yield
    finally:
        redirected.reset(token)
        chord_sink.reset(chord_token)


class Window:
    """Messages that are published together: the members of a group. Stands where Celery wants a producer."""

    serializer = "json"
    connection = None

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._messages: list[Message] = []

    def add(self, message: Message) -> None:
        """Take a message; sends what there is when that is enough for one window of confirms."""
        self._messages.append(message)
        if len(self._messages) >= _WINDOW:
            self.send()

    def send(self) -> None:
        """Send what there is.

        Raises:
            PublishError: what became of the first message that was not sent; the others were tried, too.
        """
        messages, self._messages = self._messages, []
        if messages:
            self._runtime.send_all(messages)


_window: ContextVar[Window | None] = ContextVar("reliable_tasks_window", default=None)


@contextmanager
def together(runtime: Runtime) -> Iterator[Window]:
    """Publish what is sent inside in windows of confirms; what is left when the block fails is not sent."""
    around = _window.get()
    if around is not None:
        yield around
        return
    window = Window(runtime)
    token = _window.set(window)
    try:
        yield window
    finally:
        _window.reset(token)
    window.send()


class _NoConnection:
    """What Celery wants of a producer's connection when nothing is published through it."""

    recoverable_connection_errors = ()
    """Nothing is worth Celery's own second try: it would publish again what may have been taken."""

    def _reraise_as_library_errors(self) -> Any:
        return nullcontext()


class Sender:
    """Stands in for kombu's Producer: makes a Message of what Celery publishes and gives it to the right sink."""

    def __init__(self, runtime: Runtime, due: Due = Due()) -> None:
        self.connection = _NoConnection()
        self._runtime = runtime
        self._due = due

    def publish(
        self,
        body: Any,
        *,
        exchange: Any = "",
        routing_key: str = "",
        serializer: str = "json",
        headers: dict[str, Any] | None = None,
        declare: Any = None,
        expiration: float | None = None,
        priority: int | None = None,
        correlation_id: str = "",
        reply_to: str = "",
        **_unused: Any,
    ) -> None:
        """Encode, sign and pass on; the arguments are those of kombu.Producer.publish.

        Raises:
            MessageTooLarge, ArgumentError: before anything is sent or written.
        """
        refuse_serializer(serializer, str((headers or {}).get("task")))
        topology, sent_at = self._runtime.topology, datetime.now(UTC)
        content_type, content_encoding, payload = dumps(body, serializer)
        # as the outbox holds them: a signature must be right after both ways
        headers = storable_json({name: value for name, value in (headers or {}).items() if value is not None})
        headers.pop("eta", None)  # the outbox holds it until then; a worker would hold it in memory
        if not headers.get("retries") or ENQUEUED_AT not in headers:
            headers[ENQUEUED_AT] = sent_at.isoformat()
        unit = current_unit.get()
        case = (unit.correlation_id if unit else None) or headers.get("root_id") or headers.get("id", "")
        headers.setdefault(CORRELATION_ID, case)
        if unit and unit.replay and headers.get("id") in unit.task_ids:
            headers.setdefault(REPLAY, unit.replay)  # else it would pass for a late copy of what was replayed
        queue = declare[0].name if declare else topology.default_queue
        if declare:
            # now and not in the relay, where nobody would hear of it
            topology.work_queue(queue).level(priority or None)
        message = Message(
            task_id=str(headers["id"]),
            task_name=str(headers["task"]),
            exchange="" if declare else str(getattr(exchange, "name", exchange) or ""),
            routing_key="" if declare else str(routing_key or ""),
            queue=queue,
            body=payload.encode() if isinstance(payload, str) else bytes(payload),
            headers=headers,
            properties={
                "content_type": content_type,
                "content_encoding": content_encoding,
                "correlation_id": correlation_id or str(headers["id"]),
                **({"reply_to": reply_to} if reply_to else {}),
            },
            priority=priority or None,
            due_at=self._due.at,
            delay=self._due.after,
            expires_at=sent_at + timedelta(seconds=expiration) if expiration is not None else None,
        )
        self._refuse_too_late(message, sent_at)
        self._sink()(ready_to_go(self._runtime, message, sent_at))

    def _refuse_too_late(self, message: Message, sent_at: datetime) -> None:
        retention = self._runtime.settings.key_retention_seconds
        wait = message.delay or (message.due_at - sent_at if message.due_at else timedelta(0))
        if retention and wait >= timedelta(seconds=retention):
            raise ArgumentError(
                f"task {message.task_name} is to run in {wait.days} days, and keys are kept for "
                f"{retention} s only: a copy of it could not be told from it any more",
                hint="send it nearer to its time, or raise RELIABLE_TASKS_KEY_RETENTION for all programs",
            )

    def _sink(self) -> Sink:
        # `app.enqueue` comes first: a session that a task has opened may commit though the task fails
        sink, unit, window = redirected.get(), current_unit.get(), _window.get()
        if sink is not None:
            return sink
        if unit is not None:
            return unit.messages.append
        return self._runtime.send_now_or_when_due if window is None else window.add


def ready_to_go(
    runtime: Runtime, message: Message, sent_at: datetime, *, headers_known: bool = False
) -> Message:
    """The message as it goes its way: signed, when it is none of which a worker would make a dead letter.

    Args:
        headers_known: those of a message that has passed here, except for what cannot be wrong.

    Raises:
        MessageTooLarge, ArgumentError: when it is; here somebody hears of it.
    """
    limit = runtime.settings.max_body_bytes
    if len(message.body) > limit:
        raise MessageTooLarge(
            f"task {message.task_name} has a body of {len(message.body)} bytes, the limit is {limit}",
            hint="store the data and send its key; or raise RELIABLE_TASKS_MAX_BODY_BYTES for all who send "
            "and all who execute",
        )
    try:
        if not headers_known:
            check_headers(message.headers)
        check_body(message.body)
    except Undecodable as why:
        raise ArgumentError(f"task {message.task_name} cannot be sent: {why.message}", hint=why.hint) from why
    return runtime.signer.sign(message, sent_at)


def is_collected() -> bool:
    """Whether what is sent here waits for a transaction: that of a caller, or of the task that runs."""
    return redirected.get() is not None or current_unit.get() is not None


def publishes_at_once() -> bool:
    """Whether what is sent here, and is not due later, waits for nothing and nobody."""
    return not is_collected() and _window.get() is None


def due(eta: datetime | str | None, countdown: float | None) -> Due:
    """What Celery's options mean. A naive eta is taken as UTC, as Celery does.

    A countdown stays one until the database adds it to its own clock: by the clock of this machine, which may be
    wrong, a retry could come an hour late.
    """
    if countdown is not None and countdown > 0:
        return Due(after=timedelta(seconds=float(countdown)))
    if eta is None:
        return Due()
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Due(at=moment) if moment > datetime.now(UTC) else Due()
