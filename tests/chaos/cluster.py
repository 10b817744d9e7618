"""A private RabbitMQ cluster: each node on a loopback address of its own, so that they can be cut off from each other.

Needs root, for the firewall's rules (nft), and RabbitMQ 4. Clients come from 127.0.0.1: a partition is none for them.
"""

import os
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from reliable_tasks.dev.binaries import RABBITMQ_SBIN, find_rabbitmq
from reliable_tasks.dev.ports import accepts, free_ports
from reliable_tasks.dev.processes import ProcessId, end, spawn, this_process, with_variable
from reliable_tasks.dev.state import new_password, write_private
from reliable_tasks.errors import ServiceError, ServiceStartError
from tests.chaos.cluster_node import AMQP, USER, Node, Shared
from tests.waiting import wait_until

MARK = "RELIABLE_TASKS_TEST_CLUSTER"
"""Environment variable of all its processes, so that they are found when their owner has died."""


class Cluster:
    """The nodes, in one folder; everything of it is gone at the end of the block.

    Args:
        size: how many nodes.
    """

    def __init__(self, size: int = 3) -> None:
        _clean_abandoned()
        self._instance = secrets.token_hex(6)
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=_parent()))
        # the nodes share one epmd, and what is registered there must not have the same port
        epmd_port, *distribution_ports = free_ports(1 + size)
        write_private(self.folder / "instance", self._instance)
        owner = this_process()
        write_private(self.folder / "owner", f"{owner.pid} {owner.started}")
        network = _free_network(size)
        addresses = [f"{network}.{10 + number}" for number in range(1, size + 1)]
        names = tuple(f"n{number}@{address}" for number, address in enumerate(addresses, 1))
        shared = Shared((MARK, self._instance), new_password(), secrets.token_hex(20), epmd_port, names)
        self._shared = shared
        self._cut: list[Node] = []
        self.nodes = [
            Node(f"n{number}", address, port, self.folder / f"n{number}", shared)
            for number, (address, port) in enumerate(zip(addresses, distribution_ports, strict=True), 1)
        ]

    def __enter__(self) -> Self:
        try:
            self._start_epmd()
            for node in self.nodes:
                node.begin()
            for node in self.nodes:
                node.wait_ready()
            if self.version.startswith("3."):
                raise ServiceStartError(
                    f"RabbitMQ {self.version} does not come together again after a partition",
                    hint=f"{RABBITMQ_SBIN} names the programs of a newer one; scripts/fetch-broker fetches them",
                )
            wait_until(self.whole, "the nodes to have found each other", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: Any) -> None:
        _remove(self.folder)

    @property
    def version(self) -> str:
        """RabbitMQ's."""
        return self._any().management.version()

    @property
    def management_url(self) -> str:
        """The management API of a node that runs and is not cut off."""
        return self._any().management_url

    def broker_url(self, vhost: str) -> str:
        """The address for clients: all nodes, of which any will do."""
        return ";".join(self.broker_url_of(node, vhost) for node in self.nodes)

    def broker_url_of(self, node: Node, vhost: str) -> str:
        """The address of one node."""
        return f"amqp://{USER}:{self._shared.password}@{node.address}:{AMQP}/{quote(vhost, safe='')}"

    def create_vhost(self, name: str) -> str:
        """Make a vhost; returns the address for clients."""
        self._any().management.create_vhost(name)
        wait_until(
            lambda: all(name in node.management.vhosts() for node in self.nodes), f"vhost {name} everywhere"
        )
        return self.broker_url(name)

    def whole(self) -> bool:
        """Whether every node runs and sees all the others."""
        return all(
            sum(bool(other["running"]) for other in self.ask("nodes", node)) == len(self.nodes)
            for node in self.nodes
        )

    def ask(self, path: str, node: Node | None = None) -> Any:
        """What the management API of a node answers to GET."""
        return (node or self._any()).management._call("GET", f"/api/{path}", seconds=10)

    def queues(self, vhost: str, node: Node | None = None) -> list[dict[str, Any]]:
        """The queues of a vhost, with `leader`, `members` and `online`."""
        found: list[dict[str, Any]] = self.ask(f"queues/{quote(vhost, safe='')}", node)
        return found

    def leader(self, vhost: str, queue: str) -> Node:
        """The node that leads a queue now."""
        found = self.ask(f"queues/{quote(vhost, safe='')}/{quote(queue, safe='')}")["leader"]
        return next(node for node in self.nodes if node.full_name == found)

    def caught_up(self) -> bool:
        """Whether all nodes are there, and none is needed for any queue's majority: the next one may go.

        The `online` of a queue that the API tells is not asked: an idle leader that was cut off tells its own for long.
        """
        return self.whole() and not any(self._critical(node) for node in self.nodes)

    def restart(self, node: Node) -> None:
        """Stop a node in order and start it again."""
        node.stop()
        node.begin()
        node.wait_ready()

    def cut_off(self, node: Node, *, hears: bool = False, is_heard: bool = False) -> None:
        """From now on nothing goes between this node and the others, or one way only; what clients send does."""
        self._cut.append(node)
        others = ", ".join(other.address for other in self.nodes if other is not node)
        from_it = f"ip saddr {node.address} ip daddr {{ {others} }}"
        to_it = f"ip saddr {{ {others} }} ip daddr {node.address}"
        dropped = [*([] if is_heard else [from_it]), *([] if hears else [to_it])]
        _nft(
            f"add table inet {self._table}",
            f"add chain inet {self._table} cut {{ type filter hook input priority 0; }}",
            *(f"add rule inet {self._table} cut {packets} counter drop" for packets in dropped),
        )

    def heal(self) -> None:
        """End all partitions."""
        self._cut.clear()
        _nft(f"add table inet {self._table}", f"delete table inet {self._table}")

    @contextmanager
    def partition(self, node: Node, *, hears: bool = False, is_heard: bool = False) -> Iterator[None]:
        """Cut a node off, and wait until both sides know; healed at the end, and not waited for."""
        self.cut_off(node, hears=hears, is_heard=is_heard)
        try:
            majority = next(other for other in self.nodes if other is not node)
            wait_until(lambda: not self._sees(majority, node), f"{node.name} to be missed", 90)
            yield
        finally:
            self.heal()

    @property
    def _table(self) -> str:
        return f"reliable_tasks_{self._instance}"

    def _critical(self, node: Node) -> bool:
        try:
            self.ask("health/checks/node-is-quorum-critical", node)
        except ServiceError:
            return True
        return False

    def _sees(self, one: Node, other: Node) -> bool:
        return any(each["name"] == other.full_name and each["running"] for each in self.ask("nodes", one))

    def _any(self) -> Node:
        return next(node for node in self.nodes if node.answers and node not in self._cut)

    def _start_epmd(self) -> None:
        addresses = ",".join(node.address for node in self.nodes)
        log = self.folder / "epmd.log"
        epmd = [find_rabbitmq().epmd, "-port", str(self._shared.epmd_port), "-address", addresses]
        spawn(epmd, env=self.nodes[0].environment(), folder=self.folder, log=log, account=None)
        wait_until(lambda: accepts(self._shared.epmd_port), f"epmd, see {log}")


def can_partition() -> bool:
    """Whether this machine lets us cut nodes off: root, and the program nft."""
    return os.geteuid() == 0 and shutil.which("nft") is not None


def _free_network(size: int) -> str:
    """Three bytes of loopback addresses on which nobody listens."""
    while True:
        network = f"127.{random.SystemRandom().randint(16, 250)}.{random.SystemRandom().randint(1, 250)}"
        if not any(_listens(f"{network}.{10 + number}") for number in range(1, size + 1)):
            return network


def _listens(address: str) -> bool:
    with suppress(OSError), socket.create_connection((address, AMQP), timeout=1):
        return True
    return False


def _nft(*rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input="\n".join(rules) + "\n", text=True, check=True)


def _parent() -> Path:
    parent = Path(tempfile.gettempdir()) / f"reliable-tasks-clusters-{os.geteuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    return parent


def _clean_abandoned() -> None:
    for folder in _parent().glob("cluster-*"):
        with suppress(OSError, ValueError):
            pid, started = (folder / "owner").read_text().split()
            if not ProcessId(int(pid), started).alive():
                _remove(folder)


def _remove(folder: Path) -> None:
    instance = (folder / "instance").read_text()
    for process in with_variable(MARK, instance):
        end(process, [])
    if can_partition():
        table = f"reliable_tasks_{instance}"
        _nft(f"add table inet {table}", f"delete table inet {table}")
    shutil.rmtree(folder, ignore_errors=True)
