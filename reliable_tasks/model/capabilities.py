"""What a RabbitMQ release can do: one table that topology, worker, doctor and test markers share."""

import re
from dataclasses import dataclass
from typing import Literal

from reliable_tasks.errors import ConfigurationError

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One release series of RabbitMQ, as far as it decides how we declare, publish and consume."""

    series: tuple[int, int]
    strict_priorities: bool
    """Quorum queues deliver strictly by message priority; else a priority needs a queue per level."""
    default_delivery_limit: int | None
    """How often a quorum queue delivers when nothing is declared; None is without end."""
    delivery_limit_can_be_off: bool
    """`x-delivery-limit: -1` means none; to older brokers it means that the first return is the last."""
    nack_counts: bool
    """`basic.nack` with requeue counts towards the delivery limit, as a crash always does."""
    client_deaths_honoured: bool
    """An `x-death` header that a publisher made is believed and counted on."""
    max_message_bytes: int
    """The largest body taken by default; larger ones close the channel."""
    at_least_once_dead_letters: bool
    """Quorum queues keep a dead letter until its queue has confirmed it."""
    consumer_timeout_closes: Literal["channel", "consumer"]
    """What a worker loses that holds a message too long."""
    consumer_timeout_counts: bool
    """What a consumer has held too long counts towards the delivery limit."""
    consumer_timeout_per_queue: bool
    """`x-consumer-timeout` works as a queue's argument; else the whole broker has one."""
    transient_queues: bool
    """Queues that are neither durable nor exclusive may be declared."""
    global_prefetch: bool
    """A prefetch for a whole channel limits it (on classic queues only); else it is taken for each consumer."""

    @property
    def name(self) -> str:
        """The series in words."""
        return f"RabbitMQ {self.series[0]}.{self.series[1]}"

    @staticmethod
    def for_version(version: str) -> "Capabilities":
        """What the broker of this version can do: the newest row that is not newer than it.

        Raises:
            ConfigurationError: when the version cannot be read or is older than the table.
        """
        match = re.match(r"(\d+)\.(\d+)(?:\D|$)", version)
        if match is None:
            raise ConfigurationError(
                f"the broker's version {version!r} cannot be read", hint="the broker must be a RabbitMQ"
            )
        asked = (int(match[1]), int(match[2]))
        known = [row for row in TABLE if row.series <= asked]
        if not known:
            raise ConfigurationError(
                f"RabbitMQ {version} is too old: it cannot dead-letter without loss",
                hint=f"use {TABLE[0].name} or newer",
            )
        return known[-1]


TABLE: tuple[Capabilities, ...] = (
    Capabilities(
        series=(3, 10),
        strict_priorities=False,
        default_delivery_limit=None,
        delivery_limit_can_be_off=False,
        nack_counts=True,
        client_deaths_honoured=True,
        max_message_bytes=128 * MEBIBYTE,
        at_least_once_dead_letters=True,
        consumer_timeout_closes="channel",
        consumer_timeout_counts=True,
        consumer_timeout_per_queue=False,
        transient_queues=True,
        global_prefetch=True,
    ),
    Capabilities(
        series=(3, 13),
        strict_priorities=False,
        default_delivery_limit=None,
        delivery_limit_can_be_off=False,
        nack_counts=True,
        client_deaths_honoured=False,
        max_message_bytes=128 * MEBIBYTE,
        at_least_once_dead_letters=True,
        consumer_timeout_closes="channel",
        consumer_timeout_counts=True,
        consumer_timeout_per_queue=True,
        transient_queues=True,
        global_prefetch=True,
    ),
    Capabilities(
        series=(4, 0),
        # two buckets in the ratio 2:1 are not an order
        strict_priorities=False,
        default_delivery_limit=20,
        delivery_limit_can_be_off=True,
        nack_counts=True,
        client_deaths_honoured=False,
        max_message_bytes=16 * MEBIBYTE,
        at_least_once_dead_letters=True,
        consumer_timeout_closes="channel",
        consumer_timeout_counts=True,
        consumer_timeout_per_queue=True,
        transient_queues=True,
        global_prefetch=True,
    ),
    Capabilities(
        series=(4, 2),
        strict_priorities=False,
        default_delivery_limit=20,
        delivery_limit_can_be_off=True,
        nack_counts=True,
        client_deaths_honoured=False,
        max_message_bytes=16 * MEBIBYTE,
        at_least_once_dead_letters=True,
        consumer_timeout_closes="channel",
        consumer_timeout_counts=True,
        consumer_timeout_per_queue=True,
        transient_queues=True,
        global_prefetch=True,
    ),
    Capabilities(
        series=(4, 3),
        strict_priorities=True,
        default_delivery_limit=20,
        delivery_limit_can_be_off=True,
        nack_counts=False,
        client_deaths_honoured=False,
        max_message_bytes=16 * MEBIBYTE,
        at_least_once_dead_letters=True,
        consumer_timeout_closes="consumer",
        consumer_timeout_counts=False,
        consumer_timeout_per_queue=True,
        # 4.3.0 refuses them, later patches take them with a warning; ours are durable or exclusive
        transient_queues=True,
        global_prefetch=False,
    ),
)
"""One row per series in which something changed, oldest first."""
