"""Where the rounds of the random tier are: one broker or a cluster of three, and a database on a small disk."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack, throwaway_stack
from tests.chaos.cluster import Cluster, can_partition
from tests.deployment import Deployment, new_deployment
from tests.integration.applied_topology import TOPOLOGY, applied

DISK_BYTES = 3 << 30
IN_NAMESPACE = "CHAOS_NAMESPACE"
NOT_ROOT = (
    "not root, so without: a small disk of broker and database that can be full, "
    "a pool process that the kernel ends for its memory, lost packets, brokers that are cut off from each other"
)


@dataclass(frozen=True)
class Place:
    """The services, and what can be done to them.

    Args:
        cluster: the brokers when there are three; the stack's own is stopped then.
        disk: where the stack's data are, when that can be full.
        possible: see `Entry.needs`.
    """

    stack: Stack
    cluster: Cluster | None
    disk: Path | None
    possible: frozenset[str]
    template: str

    @property
    def broker(self) -> str:
        """The broker's version, and how many there are."""
        return self.stack.rabbitmq_version if self.cluster is None else f"{self.cluster.version}, three nodes"

    def deployment(self, folder: Path) -> Deployment:
        """An empty vhost with the topology and an empty database with the schema."""
        if self.cluster is None:
            return new_deployment(self.stack, self.template, folder)
        name = f"chaos_{secrets.token_hex(4)}"
        url, management = self.cluster.create_vhost(name), self.cluster.management_url
        applied(TOPOLOGY, Management(management, url), url)
        return Deployment(url, management, self.stack.create_database(name, self.template), folder)


@contextmanager
def place(folder: Path, nodes: int) -> Iterator[Place]:
    """Start everything, and end it with the block."""
    disk = _small_disk(folder) if os.geteuid() == 0 else None
    possible = {"single" if nodes == 1 else "cluster"}
    if disk is not None:
        possible |= {"disk", *({"cgroup"} if Path("/sys/fs/cgroup/memory/cgroup.procs").exists() else ())}
    if can_partition():
        possible.add("partition")
    with throwaway_stack() as stack:
        template = "chaos_template"
        import_module("reliable_tasks.store.migrations").upgrade(stack.create_database(template))
        if nodes == 1:
            yield Place(stack, None, disk, frozenset(possible), template)
            return
        stack.broker.stop()
        with Cluster(nodes) as cluster:
            yield Place(stack, cluster, disk, frozenset(possible), template)


def into_namespace(module: str) -> None:
    """As root, go on in a mount namespace: what is mounted there goes with us, however we end."""
    if os.geteuid() == 0 and IN_NAMESPACE not in os.environ:
        os.environ[IN_NAMESPACE] = "1"
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *command])


def _small_disk(folder: Path) -> Path:
    """A file system in memory, where throw-away stacks are made from now on."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=1777", "tmpfs", disk], check=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(disk)
    return disk
