"""The declared queues as kombu sees them; none is ever declared from here."""

from collections.abc import Mapping
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


def chosen_levels(app: Any, capabilities: Capabilities) -> tuple[dict[str, str], dict[str, str]]:
    """What this worker is to consume, as declared names by physical ones: first what it needs, then what a broker
    that was upgraded may still have."""
    topology = app.runtime.topology
    needed: dict[str, str] = {}
    former: dict[str, str] = {}
    for name in list(app.amqp.queues.consume_from):
        if not topology.has_queue(name):
            needed[name] = name
            continue
        declared = topology.work_queue(name)
        needed.update(dict.fromkeys(declared.names(capabilities), name))
        former.update(dict.fromkeys(declared.former_names(capabilities), name))
    return needed, former


def consume(app: Any, names: Mapping[str, str]) -> None:
    """Add these physical queues, which belong to those declared ones, to what this worker consumes."""
    for physical, name in names.items():
        if physical != name:
            app.amqp.queues.select_add(kombu_queue(app.runtime.topology, name, physical))
