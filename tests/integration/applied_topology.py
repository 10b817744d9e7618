"""This repository's topology, applied to the vhost of a test."""

from typing import Any

from reliable_tasks.broker.management import Management
from reliable_tasks.model.shape import Topology
from reliable_tasks.model.shape_loading import load_topology
from reliable_tasks.operate import topology as operate
from tests.waiting import wait_until

TOPOLOGY = load_topology("topology:TOPOLOGY")


def applied(topology: Topology, management: Management, url: str) -> list[dict[str, Any]]:
    """Apply a topology; returns what was recorded."""
    rows: list[dict[str, Any]] = []
    operate.apply(operate.plan(topology, management), url, record=rows.append)
    return rows


def take(channel: Any, queue: str) -> Any:
    """The next message of a queue, when it comes: its method, properties and body."""
    found: list[Any] = []

    def arrived() -> bool:
        method, properties, body = channel.basic_get(queue)
        if method is not None:
            found.append((method, properties, body))
        return method is not None

    wait_until(arrived, f"a message in {queue}")
    return found[0]
