"""Publishing with confirms that are matched by delivery tag, `mandatory`, and a deadline.

Many messages go out in a few sends, while the confirms of those before them come in. A connection is thrown away after
any doubt.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain

import amqp

from reliable_tasks import failpoints
from reliable_tasks.broker.confirms import UNANSWERED, Outcomes, Sent
from reliable_tasks.broker.connection import broker_address
from reliable_tasks.broker.publishing_line import Line, first_line
from reliable_tasks.broker.wire import NotEncodable
from reliable_tasks.errors import (
    BrokerBlocked,
    BrokerUnreachable,
    MessageTooLarge,
    NotSent,
    PublishError,
    PublishRefused,
    ReliableTasksError,
)
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route

Router = Callable[[Message, Capabilities], Route]

WINDOW = 1000
"""Messages that may be unconfirmed at a time."""

_AT_ONCE = 64 * 1024
"""Bytes of a send. What the broker says is heard between two, or both could wait for the other to read."""


class Publisher:
    """Publishes messages and says of each what became of it. Safe to share between threads and forks.

    Args:
        broker_url: amqp://user:password@host:port/vhost; of a cluster those of its nodes, separated by semicolons.
        route: says where a message goes on a broker of these capabilities.
        deadline_seconds: how long half a window may take; what is unconfirmed then is unknown.
    """

    def __init__(self, broker_url: str, route: Router, *, deadline_seconds: float = 10.0) -> None:
        self._nodes = deque(broker_address(broker_url).nodes)  # the next one to connect to comes first
        self._route = route
        self._deadline_seconds = deadline_seconds
        self._lock = threading.RLock()
        self._line: Line | None = None
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._renew_lock)

    def publish(self, message: Message) -> None:
        """Publish one message and wait for its confirm.

        Raises:
            PublishError: when the broker did not take it, or nobody can tell (PublishUnconfirmed).
            BrokerUnreachable: when there is no connection; nothing was sent.
        """
        outcome = self.publish_all([message])[0]
        if outcome is not None:
            raise outcome

    def publish_all(self, messages: Iterable[Message]) -> Outcomes:
        """Publish messages with pipelined confirms; per message None (confirmed) or what went wrong.

        They are taken from the iterable as the broker keeps pace. After a doubt (PublishUnconfirmed) no more are sent.

        Raises:
            BrokerUnreachable: when there is no connection; nothing was sent.
        """
        outcomes: Outcomes = []
        rest = _numbered(messages, outcomes)
        with self._lock:
            for sent in rest:
                try:
                    line = self._connected()
                except BrokerUnreachable:
                    if len(outcomes) == 1:
                        raise
                    rest = chain([sent], rest)
                    break
                if not self._stream(line, chain([sent], rest), outcomes):
                    break
            if failpoints.ACTIVE and outcomes:
                failpoints.reach("publish.after_confirm")
        for place, message in rest:
            outcomes[place] = NotSent(
                f"task {message.task_id} was not sent: the broker did not answer for those before it",
                hint="send it again when the broker is well",
            )
        return outcomes

    def close(self) -> None:
        """Close the connection; the next publish makes a new one."""
        with self._lock:
            self._discard()

    def _renew_lock(self) -> None:
        # another thread of the parent may have held it at the fork, and that thread is not here to release it
        self._lock = threading.RLock()

    def _stream(self, line: Line, source: Iterator[Sent], outcomes: Outcomes) -> bool:
        """Send what comes, until the line is of no use any more; whether the rest may go on another."""
        line.confirms.begin(outcomes)
        refusal: Exception | None = None
        broken = False
        try:
            self._send(line, source, outcomes)
        except amqp.exceptions.ChannelError as error:
            refusal = error
        except (OSError, amqp.exceptions.AMQPError):
            broken = True  # what has no confirm stays unknown
        except BaseException:
            # a late ack would be taken for the confirm of another message
            self._discard()
            raise
        doubtful = line.confirms.give_up()
        if refusal is not None or broken or doubtful or line.confirms.nacked:
            # nacked, too: seen on 3.10, what a full queue has refused once, it goes on refusing on this channel
            self._discard()
        return not doubtful if refusal is None else self._one_by_one(doubtful, outcomes, refusal)

    def _one_by_one(self, doubtful: list[Sent], outcomes: Outcomes, refusal: Exception) -> bool:
        """The broker has closed the channel because of one message, and does not say of which."""
        if len(doubtful) == 1:
            ((place, message),) = doubtful
            outcomes[place] = _refused(message, refusal)
            return True
        with suppress(BrokerUnreachable):
            # no answer ends it: the others would wait as long, each by itself
            return all(self._stream(self._connected(), iter([one]), outcomes) for one in doubtful)
        return False

    def _send(self, line: Line, source: Iterator[Sent], outcomes: Outcomes) -> None:
        """Send what comes, and await the answers; what is open at the end is in doubt."""
        parts: list[bytes] = []
        size = 0
        for place, message in source:
            try:
                frames = self._frames(line, message)
            except PublishError as why:
                outcomes[place] = why
                continue
            line.confirms.sent(place, message)
            parts.append(frames)
            size += len(frames)
            full = len(line.confirms.open) >= WINDOW
            if size >= _AT_ONCE or full:
                line.write(b"".join(parts))
                parts, size = [], 0
                if full and not line.answered(WINDOW // 2):
                    return
                line.hear()
                if line.confirms.nacked:
                    break
        if parts:
            line.write(b"".join(parts))
        if failpoints.ACTIVE:
            failpoints.reach("publish.before_confirm", line.socket)
        line.answered(0)

    def _frames(self, line: Line, message: Message) -> bytes:
        """A message as it is sent.

        Raises:
            PublishError: when it is not.
        """
        if line.blocked is not None:
            raise BrokerBlocked(
                f"the broker blocks publishers: {line.blocked}",
                hint="free memory or disk on the broker; what is in the outbox waits and goes out by itself",
            )
        limit = line.capabilities.max_message_bytes
        if len(message.body) > limit:
            raise MessageTooLarge(
                f"task {message.task_id} has a body of {len(message.body)} bytes, the broker takes {limit}",
                hint="store the data and send its key",
            )
        try:
            return line.wire.published(message, self._route(message, line.capabilities))
        except NotEncodable as why:
            raise _refused(message, why) from why
        except PublishError:
            raise
        except ReliableTasksError as why:
            raise PublishRefused(
                f"task {message.task_id} cannot be sent: {why.message}", hint=why.hint
            ) from why

    def _connected(self) -> Line:
        """The line, once it is sure that the broker has not ended it, or a new one.

        Raises:
            BrokerUnreachable: when no node answers.
        """
        if self._pid != os.getpid():
            # the parent's socket: closing it here would close it for the parent
            self._line = None
            self._pid = os.getpid()
        if self._line is not None:
            try:
                self._line.hear()
            except (OSError, amqp.exceptions.AMQPError):
                self._discard()
        if self._line is None:
            self._line = self._new_line()
        return self._line

    def _new_line(self) -> Line:
        """To the first node that answers."""
        for _ in range(len(self._nodes) - 1):
            with suppress(BrokerUnreachable):
                return Line(self._nodes[0], self._deadline_seconds)
            self._nodes.rotate(-1)
        return Line(self._nodes[0], self._deadline_seconds)

    def _discard(self) -> None:
        line, self._line = self._line, None
        # one that takes messages and confirms none may be cut off from the others; they would not be asked
        self._nodes.rotate(-1)
        if line is not None:
            line.close()


def _numbered(messages: Iterable[Message], outcomes: Outcomes) -> Iterator[Sent]:
    """The messages with the places of their outcomes, which are there from then on."""
    for place, message in enumerate(messages):
        outcomes.append(UNANSWERED)
        yield place, message


def _refused(message: Message, error: BaseException) -> PublishRefused:
    if isinstance(error, amqp.exceptions.NotFound):
        hint = "run `reliable-tasks topology apply`"
    else:
        hint = "a header, property or routing key is not what AMQP can hold"
    return PublishRefused(f"task {message.task_id} cannot be sent: {first_line(error)}", hint=hint)
