"""Faults of the random tier that happen to the nodes of a cluster of brokers, and between them."""

import time
from collections.abc import Callable
from contextlib import suppress

from reliable_tasks.errors import ServiceError
from tests.chaos.cluster import Cluster
from tests.chaos.cluster_node import Node
from tests.chaos.random_field import Entry, Field

_WHOLE_SECONDS = 120.0
_QUEUES = ("payments", "notifications", "payments.dead")


def _cluster(field: Field) -> Cluster:
    assert field.cluster is not None
    return field.cluster


def _leader(field: Field) -> Node:
    vhost = field.run.around.broker_url.partition(";")[0].rpartition("/")[2]
    return _cluster(field).leader(vhost, field.chance.choice(_QUEUES))


def _follower(field: Field) -> Node:
    leader = _leader(field)
    return field.chance.choice([node for node in _cluster(field).nodes if node is not leader])


def _whole_again(field: Field) -> bool:
    def whole() -> bool:
        with suppress(ServiceError):
            return _cluster(field).caught_up()
        return False

    return field.wait(whole, _WHOLE_SECONDS)


def _killed(chosen: Callable[[Field], Node]) -> Callable[[Field], bool]:
    def act(field: Field) -> bool:
        node = chosen(field)
        node.kill()
        field.hold(2.0, 6.0)
        node.begin()
        node.wait_ready()
        return _whole_again(field)

    return act


def _all_killed(field: Field) -> bool:
    nodes = _cluster(field).nodes
    moment = time.time()
    for node in nodes:
        node.kill()
    noticed = field.wait(lambda: field.not_accepted(moment), 10)
    for node in nodes:
        node.begin()
    for node in nodes:
        node.wait_ready()
    return _whole_again(field) and noticed


def _stands_still(field: Field) -> bool:
    node = _leader(field)
    node.pause()
    try:
        field.hold(2.0, 8.0)
    finally:
        node.resume()
    return _whole_again(field)


def _cut_off(
    chosen: Callable[[Field], Node], *, hears: bool = False, is_heard: bool = False
) -> Callable[[Field], bool]:
    def act(field: Field) -> bool:
        with _cluster(field).partition(chosen(field), hears=hears, is_heard=is_heard):
            field.hold(2.0, 6.0)
        return _whole_again(field)

    return act


def _all_cut_off(field: Field) -> bool:
    """Nobody has a majority."""
    cluster = _cluster(field)
    moment = time.time()
    try:
        for node in cluster.nodes[:2]:
            cluster.cut_off(node)
        noticed = field.wait(lambda: field.not_accepted(moment), 30)
        field.hold(2.0, 6.0)
    finally:
        cluster.heal()
    return _whole_again(field) and noticed


def _one_after_another(field: Field) -> bool:
    came_back = [_restarted(field, node) for node in _cluster(field).nodes]
    return all(came_back)


def _restarted(field: Field, node: Node) -> bool:
    _cluster(field).restart(node)
    return _whole_again(field)


CLUSTER = (
    Entry("the broker that leads a queue is killed", ("F9",), _killed(_leader), needs=("cluster",)),
    Entry("a broker that follows is killed", ("F9",), _killed(_follower), needs=("cluster",)),
    Entry("all brokers are killed", ("F9",), _all_killed, needs=("cluster",)),
    Entry("the broker that leads a queue stands still", ("F6", "F9"), _stands_still, needs=("cluster",)),
    Entry("the broker that leads a queue is cut off", ("F10",), _cut_off(_leader), needs=("cluster",)),
    Entry("a broker that follows is cut off", ("F10",), _cut_off(_follower), needs=("cluster",)),
    Entry("all brokers are cut off from each other", ("F10",), _all_cut_off, needs=("cluster",)),
    Entry("the brokers are restarted one after another", ("F13",), _one_after_another, needs=("cluster",)),
)

ONE_WAY = (
    Entry(
        "the broker that leads a queue hears the others, and is not heard",
        ("F10",),
        _cut_off(_leader, hears=True),
        needs=("cluster",),
    ),
    Entry(
        "the broker that leads a queue is heard, and does not hear the others",
        ("F10",),
        _cut_off(_leader, is_heard=True),
        needs=("cluster",),
    ),
)
