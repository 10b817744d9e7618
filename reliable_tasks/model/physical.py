"""A shape as one broker holds it: flat, every argument spelled out. Declared and live use the same values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

ArgumentValue = str | int | bool
QueueRole = Literal["work", "dead-letter", "unroutable", "undeclared"]


@dataclass(frozen=True)
class PhysicalExchange:
    """One exchange on a broker."""

    name: str
    type: str
    arguments: Mapping[str, ArgumentValue] = field(default_factory=dict, hash=False)
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False

    @property
    def title(self) -> str:
        """The name as messages show it."""
        return self.name


@dataclass(frozen=True)
class PhysicalQueue:
    """One queue on a broker; its role is ours, the broker does not know it."""

    name: str
    arguments: Mapping[str, ArgumentValue] = field(hash=False)
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    role: QueueRole = field(default="undeclared", compare=False)
    policy: Mapping[str, ArgumentValue] = field(default_factory=dict, hash=False, compare=False)
    """What policies say of a live one, by their own names (without x-)."""

    @property
    def title(self) -> str:
        """The name as messages show it."""
        return self.name


@dataclass(frozen=True)
class Binding:
    """What leads from an exchange to a queue (or, for undeclared ones, to another exchange)."""

    exchange: str
    queue: str
    routing_key: str
    arguments: Mapping[str, ArgumentValue] = field(default_factory=dict, hash=False)
    to_exchange: bool = False

    @property
    def title(self) -> str:
        """Both ends and the key as messages show them."""
        return f"{self.exchange} -> {self.queue} (key {self.routing_key})"


Item = PhysicalExchange | PhysicalQueue | Binding


@dataclass(frozen=True)
class Physical:
    """Everything in one vhost."""

    exchanges: tuple[PhysicalExchange, ...] = ()
    queues: tuple[PhysicalQueue, ...] = ()
    bindings: tuple[Binding, ...] = ()

    def in_safe_order(self) -> Iterator[Item]:
        """All of it, in the order in which it may be declared while others publish and consume.

        What takes in dead letters comes before what produces them: a work queue whose dead-letter side is
        not there yet would hold its rejected messages back (at-least-once) or lose them (at-most-once), and
        the same goes for an exchange whose alternate leads nowhere. Bindings to work come last, so nothing
        is routed too early.
        """
        yield from self.exchanges
        work = {queue.name for queue in self.queues if queue.role == "work"}
        for wanted in (False, True):
            yield from (queue for queue in self.queues if (queue.name in work) is wanted)
            yield from (binding for binding in self.bindings if (binding.queue in work) is wanted)
