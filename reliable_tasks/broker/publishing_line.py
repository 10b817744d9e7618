"""One connection with one channel in confirm mode: what is written to it, and what the broker says on it."""

import time
from contextlib import suppress
from typing import Any

import amqp

from reliable_tasks.broker import tls
from reliable_tasks.broker.confirms import Confirms
from reliable_tasks.broker.hearing import Ear
from reliable_tasks.broker.wire import Wire
from reliable_tasks.errors import BrokerUnreachable
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.settings.addresses import Address


class Line:
    """A connection that publishes. After any doubt it is thrown away.

    Args:
        address: of one node.
        deadline_seconds: how long one send, or one wait for answers, may take.

    Raises:
        BrokerUnreachable: when there is no connection to be had.
    """

    def __init__(self, address: Address, deadline_seconds: float) -> None:
        self.blocked: str | None = None
        """Why the broker takes nothing now, in its words."""

        self._deadline_seconds = deadline_seconds
        self._connection = amqp.Connection(
            host=f"{address.host}:{address.port}",
            userid=address.user,
            password=address.password,
            virtual_host=address.path,
            ssl=tls.options(address),
            connect_timeout=deadline_seconds,
            read_timeout=deadline_seconds,
            write_timeout=deadline_seconds,
            client_properties={"connection_name": "reliable-tasks publisher"},
            on_blocked=self._on_blocked,
            on_unblocked=self._on_unblocked,
        )
        try:
            self._connection.connect()
            self.capabilities = Capabilities.for_version(
                str(self._connection.server_properties.get("version", ""))
            )
            channel = self._connection.channel()
            channel.confirm_select()
            # for what is read and written without a timeout of its own, without setting one each time
            self._connection.sock.settimeout(deadline_seconds)
        except (OSError, amqp.exceptions.AMQPError) as error:
            self.close()
            raise BrokerUnreachable(
                f"the broker at {address.host}:{address.port} cannot be published to: {first_line(error)}",
                hint="is it running, and are user, password and vhost right? `reliable-tasks config show` tells",
            ) from error
        self.confirms = Confirms()
        self.confirms.listen(channel)
        self._ear = Ear(self._connection, channel.channel_id, self.confirms.acked, deadline_seconds)
        self.wire = Wire(channel.channel_id, self._connection.frame_max)

    @property
    def socket(self) -> Any:
        """For a failpoint that shuts it."""
        return self._connection.sock

    def write(self, data: bytes) -> None:
        """Send whole frames."""
        self._connection.transport.write(data)

    def hear(self) -> None:
        """Take in what the broker has said so far."""
        while self._ear.hear(0):
            pass

    def answered(self, most_open: int) -> bool:
        """Wait until no more than so many messages are unanswered; whether that was within the deadline."""
        deadline = time.monotonic() + self._deadline_seconds
        left = self._deadline_seconds
        while len(self.confirms.open) > most_open and left > 0:
            self._ear.hear(left)
            left = deadline - time.monotonic()
        return len(self.confirms.open) <= most_open

    def close(self) -> None:
        """Drop the connection, whatever state it is in."""
        with suppress(Exception):
            self._connection.collect()

    def _on_blocked(self, reason: str) -> None:
        self.blocked = reason

    def _on_unblocked(self) -> None:
        self.blocked = None


def first_line(error: BaseException) -> str:
    """What an error says, or is."""
    return (str(error) or type(error).__name__).partition("\n")[0]
