"""The declared queues as kombu sees them; none is ever declared from here."""

from typing import Any

from kombu import Exchange, Queue

from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.shape import Topology

QUORUM = {"x-queue-type": "quorum"}
"""Kept so that Celery knows: with any other type it would set a prefetch that quorum queues refuse."""


def kombu_queue(topology: Topology, name: str, physical: str | None = None) -> Queue:
    """One work queue, or one of its levels."""
    exchange = Exchange(topology.work_queue(name).exchange, type="direct", no_declare=True)
    return Queue(
        physical or name,
        exchange,
        routing_key=physical or name,
        queue_arguments=dict(QUORUM),
        no_declare=True,
    )


def kombu_queues(topology: Topology) -> list[Queue]:
    """All work queues by their declared names."""
    return [kombu_queue(topology, queue.name) for queue in topology.queues]


def consume_levels(app: Any, capabilities: Capabilities) -> list[str]:
    """Add the priority levels of the chosen queues to what this worker consumes; returns all physical names."""
    topology = app.runtime.topology
    names: list[str] = []
    for name in list(app.amqp.queues.consume_from):
        declared = next((queue for queue in topology.queues if queue.name == name), None)
        if declared is None:
            names.append(name)
            continue
        for physical in declared.names(capabilities):
            names.append(physical)
            if physical != name:
                app.amqp.queues.select_add(kombu_queue(topology, name, physical))
    return list(dict.fromkeys(names))
