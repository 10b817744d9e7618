"""The declared shape of a broker: exchanges, queues, priorities and dead-lettering, in code and frozen.

TOPOLOGY = Topology(
    exchanges=(Exchange("commands", "direct"), Exchange("dead-letters", "direct")),
    queues=(Queue("payments", DeadLetter("dead-letters", "payments.dead"), levels=3), ...),
    default_queue="default",
)
TOPOLOGY.route("payments", 2, capabilities)      # where a publisher sends a task
TOPOLOGY.physical(capabilities)                  # what `topology apply` declares
"""

import hashlib
import json
from dataclasses import asdict, dataclass

from reliable_tasks.errors import UnknownQueue
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.physical import ArgumentValue, Binding, Physical, PhysicalExchange, PhysicalQueue
from reliable_tasks.model.shape_parts import (
    Alternate,
    DeadLetter,
    Exchange,
    Queue,
    Route,
    keeping_queue,
)
from reliable_tasks.model.shape_rules import check_shape

__all__ = ["Alternate", "DeadLetter", "Exchange", "Queue", "Route", "Topology"]


@dataclass(frozen=True)
class Topology:
    """A deployment's whole shape. A mix that would lose or repeat messages is refused when it is built."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    default_queue: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "exchanges", tuple(self.exchanges))
        object.__setattr__(self, "queues", tuple(self.queues))
        check_shape(self.exchanges, self.queues, self.default_queue)

    def has_queue(self, name: str) -> bool:
        """Whether a work queue of this name is declared."""
        return any(queue.name == name for queue in self.queues)

    def work_queue(self, name: str) -> Queue:
        """The work queue of this name.

        Raises:
            UnknownQueue: when there is none.
        """
        for queue in self.queues:
            if queue.name == name:
                return queue
        raise UnknownQueue(
            f"there is no queue {name!r} in the topology",
            hint=f"declare it there or use one of {', '.join(queue.name for queue in self.queues)}",
        )

    def owner_of(self, physical_name: str, capabilities: Capabilities) -> Queue | None:
        """The work queue that a physical queue is a level of; None when it is none of ours."""
        for queue in self.queues:
            if physical_name in queue.names(capabilities):
                return queue
        return None

    def route(self, queue_name: str, priority: int | None, capabilities: Capabilities) -> Route:
        """Where a task for this queue with this priority is published.

        Raises:
            UnknownQueue: when there is no such queue.
            ArgumentError: when the queue has no such priority.
        """
        queue = self.work_queue(queue_name)
        level = queue.level(priority)
        if capabilities.strict_priorities:
            # said also where there is but one level: Celery's own producers always say 0, and none counts as 4
            return Route(queue.exchange, queue.name, queue.name, level)
        name = queue.names(capabilities)[level]
        return Route(queue.exchange, name, name)

    def work_queue_names(self, capabilities: Capabilities) -> list[str]:
        """All physical work queues: what a worker's start needs to be there."""
        return [name for queue in self.queues for name in queue.names(capabilities)]

    def former_queue_names(self, capabilities: Capabilities) -> list[str]:
        """The physical queues of priority levels from before the broker was upgraded."""
        return [name for queue in self.queues for name in queue.former_names(capabilities)]

    def dead_letter_queues(self) -> list[str]:
        """The queues that the collector drains, those of unroutable messages last."""
        return [*dict.fromkeys(queue.dead_letter.queue for queue in self.queues), *self.unroutable_queues()]

    def unroutable_queues(self) -> list[str]:
        """Those of the collected queues whose messages reached no other queue: reason `unroutable`."""
        return list(dict.fromkeys(e.alternate.queue for e in self.exchanges if e.alternate))

    def physical(self, capabilities: Capabilities) -> Physical:
        """Everything as a broker with these capabilities must hold it."""
        return Physical(
            tuple(_exchange(exchange) for exchange in self._alternates_first()),
            tuple(self._queues(capabilities)),
            tuple(dict.fromkeys(self._bindings(capabilities))),
        )

    def digest(self) -> str:
        """SHA-256 of the shape in hexadecimal; the order in which its parts are listed does not matter."""
        parts = asdict(self)
        for name in ("exchanges", "queues"):
            parts[name] = sorted(parts[name], key=lambda part: str(part["name"]))
        for queue in parts["queues"]:
            queue["routing_keys"] = sorted(queue["routing_keys"])
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _alternates_first(self) -> list[Exchange]:
        alternates = {exchange.alternate.exchange for exchange in self.exchanges if exchange.alternate}
        return sorted(self.exchanges, key=lambda exchange: exchange.name not in alternates)

    def _queues(self, capabilities: Capabilities) -> list[PhysicalQueue]:
        unroutable = self.unroutable_queues()
        dead = [name for name in self.dead_letter_queues() if name not in unroutable]
        found = [keeping_queue(name, capabilities, "dead-letter") for name in dead]
        found += [keeping_queue(name, capabilities, "unroutable") for name in unroutable]
        for queue in self.queues:
            found += queue.physical(capabilities)
        return found

    def _bindings(self, capabilities: Capabilities) -> list[Binding]:
        found = [
            Binding(queue.dead_letter.exchange, queue.dead_letter.queue, queue.dead_letter.queue)
            for queue in self.queues
        ]
        # a fanout ignores the key; the empty one is what people expect to see
        found += [Binding(e.alternate.exchange, e.alternate.queue, "") for e in self.exchanges if e.alternate]
        for queue in self.queues:
            found += [Binding(queue.exchange, name, name) for name in queue.names(capabilities)]
            found += [Binding(queue.exchange, queue.name, key) for key in queue.routing_keys]
        return found


def _exchange(exchange: Exchange) -> PhysicalExchange:
    arguments: dict[str, ArgumentValue] = {}
    if exchange.alternate is not None:
        arguments["alternate-exchange"] = exchange.alternate.exchange
    return PhysicalExchange(exchange.name, exchange.type, arguments)
