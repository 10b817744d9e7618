"""Reading dead-letter queues, without ever putting a message back: a look that requeues can destroy it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pika
import pika.exceptions

from reliable_tasks.broker.connection import connected
from reliable_tasks.broker.content_headers import guard_pika
from reliable_tasks.errors import TopologyDrift

_NOT_FOUND, _NOT_ALLOWED = 404, 403


@dataclass(frozen=True)
class DeadMessage:
    """A dead-lettered message: bytes, headers, where it was and what the broker says killed it."""

    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any] = field(default_factory=dict)
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    death_reason: str = "rejected"


class DeadLetterSource:
    """Takes messages of several queues on one connection; unacked ones come again after a crash."""

    def __init__(self, broker_url: str, queues: Sequence[str], unroutable: Sequence[str] = ()) -> None:
        self._broker_url = broker_url
        self._queues = list(queues)
        self._unroutable = set(unroutable)
        self._context: Any = None
        self._channel: Any = None
        self._last_tag: int | None = None

    def take(self, limit: int) -> list[DeadMessage]:
        """Up to `limit` messages that are ready now; `ack` settles all of them.

        Raises:
            BrokerUnreachable: when there is no connection.
            TopologyDrift: when a queue is not there, or may not be read.
        """
        try:
            return self._take(limit)
        except pika.exceptions.ChannelClosedByBroker as error:
            self.close()
            why = f"a dead-letter queue cannot be read: {error.reply_text}"
            if error.reply_code == _NOT_FOUND:
                raise TopologyDrift(why, hint="run `reliable-tasks topology apply`") from error
            if error.reply_code == _NOT_ALLOWED:
                hint = (
                    "give this user `read` on every dead-letter queue, as deploy/broker-permissions.tsv does"
                )
                raise TopologyDrift(why, hint=hint) from error
            return []
        except pika.exceptions.AMQPError:
            self.close()
            return []

    def ack(self) -> None:
        """Settle everything taken so far; if the connection is gone, it comes again and is known by then."""
        if self._last_tag is not None:
            try:
                self._channel.basic_ack(self._last_tag, multiple=True)
            except pika.exceptions.AMQPError:
                self.close()
        self._last_tag = None

    def close(self) -> None:
        """Close the connection."""
        context, self._context, self._channel, self._last_tag = self._context, None, None, None
        if context is not None:
            with suppress(Exception):
                context.__exit__(None, None, None)

    def _take(self, limit: int) -> list[DeadMessage]:
        if self._channel is None:
            self._context = connected(self._broker_url, purpose="collector")
            connection = self._context.__enter__()
            guard_pika(connection)
            self._channel = connection.channel()
        found: list[DeadMessage] = []
        for queue in self._queues:
            while len(found) < limit:
                method, properties, body = self._channel.basic_get(queue)
                if method is None:
                    break
                self._last_tag = method.delivery_tag
                found.append(_dead(queue, properties, body, unroutable=queue in self._unroutable))
        return found


def _dead(queue: str, properties: Any, body: bytes, *, unroutable: bool) -> DeadMessage:
    headers = dict(properties.headers or {})
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    keys = death.get("routing-keys") or [""]
    kept = ("content_type", "content_encoding", "correlation_id", "reply_to", "priority")
    return DeadMessage(
        body=body,
        headers=headers,
        properties={
            name: getattr(properties, name) for name in kept if getattr(properties, name) is not None
        },
        queue=str(death.get("queue") or queue),
        exchange=str(death.get("exchange") or ""),
        routing_key=str(keys[0]),
        death_reason="unroutable" if unroutable else str(death.get("reason") or "rejected"),
    )
