"""The parts of a shape: exchanges, work queues and where their dead letters go. Each checks itself."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from reliable_tasks.errors import ArgumentError, ShapeError
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.physical import ArgumentValue, PhysicalQueue, QueueRole

ExchangeType = Literal["direct", "topic", "fanout", "headers"]
Overflow = Literal["reject-publish", "drop-head"]
Strategy = Literal["at-least-once", "at-most-once"]

MAX_LEVELS = 10
BACKSTOP_DELIVERY_LIMIT = 100
"""High on purpose: poison is counted in the claim; this ends only what kills workers before they claim."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
_LONGEST = 200
QUORUM: dict[str, ArgumentValue] = {"x-queue-type": "quorum"}


@dataclass(frozen=True)
class Alternate:
    """Where an exchange sends what it cannot route: a fanout and its queue, collected as `unroutable`."""

    exchange: str
    queue: str

    def __post_init__(self) -> None:
        check_name("alternate exchange", self.exchange)
        check_name("queue of the alternate exchange", self.queue)


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: ExchangeType = "topic"
    alternate: Alternate | None = None

    def __post_init__(self) -> None:
        check_name("exchange", self.name)
        _check_choice(f"exchange {self.name}", "type", self.type, get_args(ExchangeType))
        if self.alternate is not None and self.alternate.exchange == self.name:
            raise ShapeError(
                f"exchange {self.name} is its own alternate", hint="name another exchange, of type fanout"
            )


@dataclass(frozen=True)
class DeadLetter:
    """Where a queue's rejected messages go: through an exchange into a queue that keeps them."""

    exchange: str
    queue: str
    strategy: Strategy = "at-least-once"

    def __post_init__(self) -> None:
        check_name("dead-letter exchange", self.exchange)
        check_name("dead-letter queue", self.queue)
        _check_choice(f"dead-letter queue {self.queue}", "strategy", self.strategy, get_args(Strategy))


@dataclass(frozen=True)
class Queue:
    """A work queue: quorum, durable, with its dead-letter side.

    `levels` are priorities, 0 the lowest. Below RabbitMQ 4.3 each level is a physical queue (`payments`,
    `payments.p1`, ...), and limits hold for each of them. Every physical queue is reached by its own name as
    routing key; `routing_keys` are further ones that lead to level 0, for publishers who are not ours.
    """

    name: str
    dead_letter: DeadLetter
    exchange: str = "commands"
    levels: int = 1
    delivery_limit: int = BACKSTOP_DELIVERY_LIMIT
    max_length: int | None = None
    overflow: Overflow = "reject-publish"
    routing_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("queue", self.name)
        check_name(f"exchange of queue {self.name}", self.exchange)
        object.__setattr__(self, "routing_keys", tuple(self.routing_keys))
        where = f"queue {self.name}"
        _check_whole(where, "levels", self.levels, 1, MAX_LEVELS)
        _check_whole(where, "delivery_limit", self.delivery_limit, 1)
        if self.max_length is not None:
            _check_whole(where, "max_length", self.max_length, 1)
        _check_choice(where, "overflow", self.overflow, get_args(Overflow))
        if self.overflow == "drop-head" and self.dead_letter.strategy == "at-least-once":
            raise ShapeError(
                f"{where} drops its oldest messages (overflow drop-head), "
                "which silently turns at-least-once dead-lettering off",
                hint='use overflow="reject-publish"; the publisher is then told that the queue is full',
            )
        for key in self.routing_keys:
            if not isinstance(key, str) or not 0 < len(key.encode()) <= 255:
                raise ShapeError(f"{where} has the routing key {key!r}", hint="give a text of 1 to 255 bytes")
        if len(set(self.routing_keys)) < len(self.routing_keys) or self.name in self.routing_keys:
            raise ShapeError(
                f"{where} names a routing key twice",
                hint="its own name is always one of its routing keys; leave it out",
            )

    def names(self, capabilities: Capabilities) -> list[str]:
        """The physical queues, lowest level first."""
        return [self.name] if capabilities.strict_priorities else [self.name, *self._level_names()]

    def former_names(self, capabilities: Capabilities) -> list[str]:
        """The levels that were queues before the broker was upgraded: they are needed no more, but may hold tasks."""
        return self._level_names() if capabilities.strict_priorities else []

    def _level_names(self) -> list[str]:
        return [f"{self.name}.p{level}" for level in range(1, self.levels)]

    def level(self, priority: int | None) -> int:
        """The level that a priority number means; None is the lowest.

        Raises:
            ArgumentError: when the queue has no such level.
        """
        if priority is None:
            return 0
        if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority < self.levels:
            raise ArgumentError(
                f"queue {self.name} has no priority {priority!r}",
                hint=f"it takes 0 (lowest) to {self.levels - 1}" if self.levels > 1 else "it takes only 0",
            )
        return priority

    def physical(self, capabilities: Capabilities) -> list[PhysicalQueue]:
        """The queues with all their arguments."""
        arguments: dict[str, ArgumentValue] = {
            **QUORUM,
            "x-dead-letter-exchange": self.dead_letter.exchange,
            "x-dead-letter-routing-key": self.dead_letter.queue,
            "x-dead-letter-strategy": self.dead_letter.strategy,
            "x-overflow": self.overflow,
            "x-delivery-limit": self.delivery_limit,
        }
        if self.max_length is not None:
            arguments["x-max-length"] = self.max_length
        return [PhysicalQueue(name, dict(arguments), role="work") for name in self.names(capabilities)]


@dataclass(frozen=True)
class Route:
    """Where a message is published, and which physical queue that leads to."""

    exchange: str
    routing_key: str
    queue: str
    broker_priority: int | None = None


def keeping_queue(name: str, capabilities: Capabilities, role: QueueRole) -> PhysicalQueue:
    """A queue that keeps what it is given: no TTL, no length, no delivery limit (each look would count)."""
    arguments: dict[str, ArgumentValue] = dict(QUORUM)
    if capabilities.delivery_limit_can_be_off:
        arguments["x-delivery-limit"] = -1
    return PhysicalQueue(name, arguments, role=role)


def check_name(what: str, name: str) -> None:
    """Refuse a name that the broker or a person would stumble over."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise ShapeError(
            f"{what} has the name {name!r}",
            hint=f"use 1 to {_LONGEST} letters, digits and . _ : - and begin with a letter or digit",
        )
    if name.lower().startswith("amq."):
        raise ShapeError(f"{what} has the name {name!r}", hint="names beginning with amq. belong to RabbitMQ")


def _check_whole(where: str, what: str, value: int, least: int, most: int | None = None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ShapeError(f"{where} has {what}={value!r}", hint=f"give a whole number {bounds}")


def _check_choice(where: str, what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ShapeError(f"{where} has {what}={value!r}", hint=f"use {' or '.join(choices)}")
