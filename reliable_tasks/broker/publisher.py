"""Publishing with confirms that are matched by delivery tag, `mandatory`, and a deadline.

py-amqp's own confirm waits for any ack or nack, so after a timeout the late ack of one message is taken for the
confirm of the next. Here each tag is tracked, and a channel is thrown away after any doubt.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import amqp

from reliable_tasks import failpoints
from reliable_tasks.broker import tls
from reliable_tasks.broker.connection import broker_address
from reliable_tasks.broker.wire import NotEncodable, as_amqp
from reliable_tasks.errors import (
    BrokerBlocked,
    BrokerUnreachable,
    MessageTooLarge,
    PublishError,
    PublishRefused,
    PublishUnconfirmed,
    ReliableTasksError,
    Unroutable,
)
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route
from reliable_tasks.settings.addresses import Address

Router = Callable[[Message, Capabilities], Route]


class Publisher:
    """Publishes windows of messages and says of each what became of it. Safe to share between threads and forks.

    Args:
        broker_url: amqp://user:password@host:port/vhost; of a cluster those of its nodes, separated by semicolons.
        route: says where a message goes on a broker of these capabilities.
        deadline_seconds: how long one window may take; what is unconfirmed then is unknown.
    """

    def __init__(self, broker_url: str, route: Router, *, deadline_seconds: float = 10.0) -> None:
        self._nodes = deque(broker_address(broker_url).nodes)  # the next one to connect to comes first
        self._route = route
        self._deadline_seconds = deadline_seconds
        self._lock = threading.RLock()
        self._connection: Any = None
        self._channel: Any = None
        self._capabilities: Capabilities | None = None
        self._pid = os.getpid()
        self._blocked: str | None = None
        self._tag = 0
        self._open: dict[int, int] = {}
        self._returned: set[str] = set()
        self._ids: dict[int, str] = {}
        self._outcomes: list[PublishError | None] = []
        self._nacked = False
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

    def publish_all(self, messages: Sequence[Message]) -> list[PublishError | None]:
        """Publish a window with pipelined confirms; per message None (confirmed) or what went wrong.

        Raises:
            BrokerUnreachable: when there is no connection; nothing was sent.
        """
        with self._lock:
            outcomes, refusal = self._window(messages)
            if failpoints.ACTIVE:
                failpoints.reach("publish.after_confirm")
            if refusal is None:
                return outcomes
            # the broker has closed the channel because of one message, and does not say of which
            for index, message in enumerate(messages):
                if isinstance(outcomes[index], PublishUnconfirmed):
                    (outcomes[index],), alone = self._window([message])
                    if alone is not None:
                        outcomes[index] = _refused(message, alone)
                    elif isinstance(outcomes[index], PublishUnconfirmed):
                        break  # no answer: the others would wait as long, each by itself
            return outcomes

    def _window(self, messages: Sequence[Message]) -> tuple[list[PublishError | None], Exception | None]:
        """One window; and the broker's refusal, when it has closed the channel because of a message."""
        self._ensure_channel()
        self._outcomes = [PublishUnconfirmed(_unknown(message)) for message in messages]
        self._nacked = False
        refusal: Exception | None = None
        try:
            for index, message in enumerate(messages):
                self._send(index, message)
            if failpoints.ACTIVE:
                failpoints.reach("publish.before_confirm", self._connection.sock)
            self._await_confirms()
        except amqp.exceptions.ChannelError as error:
            refusal = error
            self._discard()
        except (OSError, amqp.exceptions.AMQPError):
            # what has no confirm stays unknown; the channel must not be used again
            self._discard()
        except BaseException:
            # a late ack would be taken for the confirm of another window's message
            self._discard()
            raise
        if self._open or self._nacked:
            # seen on 3.10: what a full queue has refused once, it goes on refusing on this channel, limit or not
            self._discard()
        return self._outcomes, refusal

    def close(self) -> None:
        """Close the connection; the next publish makes a new one."""
        with self._lock:
            self._discard()

    def _renew_lock(self) -> None:
        # another thread of the parent may have held it at the fork, and that thread is not here to release it
        self._lock = threading.RLock()

    def _send(self, index: int, message: Message) -> None:
        if self._blocked is not None:
            self._outcomes[index] = BrokerBlocked(
                f"the broker blocks publishers: {self._blocked}",
                hint="free memory or disk on the broker; what is in the outbox waits and goes out by itself",
            )
            return
        assert self._capabilities is not None
        limit = self._capabilities.max_message_bytes
        if len(message.body) > limit:
            self._outcomes[index] = MessageTooLarge(
                f"task {message.task_id} has a body of {len(message.body)} bytes, the broker takes {limit}",
                hint="store the data and send its key",
            )
            return
        try:
            route = self._route(message, self._capabilities)
        except PublishError as refused:
            self._outcomes[index] = refused
            return
        except ReliableTasksError as refused:
            self._outcomes[index] = PublishRefused(
                f"task {message.task_id} cannot be sent: {refused.message}", hint=refused.hint
            )
            return
        try:
            content = as_amqp(message, route)
        except NotEncodable as why:
            self._outcomes[index] = _refused(message, why)
            return
        self._tag += 1
        self._open[self._tag] = index
        self._ids[self._tag] = message.task_id
        self._channel.basic_publish(content, route.exchange, route.routing_key, mandatory=True)

    def _await_confirms(self) -> None:
        deadline = time.monotonic() + self._deadline_seconds
        while self._open:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._connection.drain_events(timeout=left)

    def _ensure_channel(self) -> None:
        if self._pid != os.getpid():
            # the parent's socket: closing it here would close it for the parent
            self._connection = self._channel = None
            self._pid = os.getpid()
        if self._connection is not None:
            try:
                self._connection.drain_events(timeout=0)
            except TimeoutError:
                pass
            except (OSError, amqp.exceptions.AMQPError):
                self._discard()
        if self._channel is None:
            self._connect()

    def _connect(self) -> None:
        """Connect to the first node that answers; BrokerUnreachable when none does."""
        for _ in range(len(self._nodes) - 1):
            with suppress(BrokerUnreachable):
                self._connect_to(self._nodes[0])
                return
            self._nodes.rotate(-1)
        self._connect_to(self._nodes[0])

    def _connect_to(self, address: Address) -> None:
        connection = amqp.Connection(
            host=f"{address.host}:{address.port}",
            userid=address.user,
            password=address.password,
            virtual_host=address.path,
            ssl=tls.options(address),
            connect_timeout=self._deadline_seconds,
            read_timeout=self._deadline_seconds,
            write_timeout=self._deadline_seconds,
            client_properties={"connection_name": "reliable-tasks publisher"},
            on_blocked=self._on_blocked,
            on_unblocked=self._on_unblocked,
        )
        try:
            connection.connect()
            self._capabilities = Capabilities.for_version(
                str(connection.server_properties.get("version", ""))
            )
            channel = connection.channel()
            channel.confirm_select()
        except (OSError, amqp.exceptions.AMQPError) as error:
            with suppress(Exception):
                connection.collect()
            raise BrokerUnreachable(
                f"the broker at {address.host}:{address.port} cannot be published to: {_first_line(error)}",
                hint="is it running, and are user, password and vhost right? `reliable-tasks config show` tells",
            ) from error
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._connection, self._channel = connection, channel
        self._blocked = None
        self._tag = 0

    def _discard(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        # one that takes messages and confirms none may be cut off from the others; they would not be asked
        self._nodes.rotate(-1)
        self._open.clear()
        self._ids.clear()
        self._returned.clear()
        if connection is not None:
            with suppress(Exception):
                connection.collect()

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for one, index in self._settled(tag, multiple):
            task_id = self._ids.pop(one)
            if task_id in self._returned:
                self._outcomes[index] = Unroutable(
                    f"no queue takes task {task_id}",
                    hint="run `reliable-tasks topology plan`: a queue or binding is missing",
                )
            else:
                self._outcomes[index] = None
        if not self._open:
            self._returned.clear()

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._nacked = True
        for one, index in self._settled(tag, multiple):
            self._outcomes[index] = PublishRefused(
                f"the broker refused task {self._ids.pop(one)}",
                hint="the queue has reached its length limit or has no leader; `reliable-tasks topology show`",
            )

    def _settled(self, tag: int, multiple: bool) -> list[tuple[int, int]]:
        tags = [one for one in self._open if one <= tag] if multiple else [tag]
        return [(one, self._open.pop(one)) for one in tags if one in self._open]

    def _on_return(self, _error: Exception, _exchange: str, _routing_key: str, message: Any) -> None:
        # the return of a mandatory message comes before its ack
        self._returned.add(message.properties.get("message_id", ""))

    def _on_blocked(self, reason: str) -> None:
        self._blocked = reason

    def _on_unblocked(self) -> None:
        self._blocked = None


def _refused(message: Message, error: BaseException) -> PublishRefused:
    return PublishRefused(
        f"task {message.task_id} cannot be sent: {_first_line(error)}",
        hint="its exchange is not there, or a header, property or routing key is not what AMQP can hold",
    )


def _unknown(message: Message) -> str:
    return (
        f"task {message.task_id} was sent to queue {message.queue} but not confirmed; it may have been taken"
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
