"""One node of a private RabbitMQ cluster: its files, its environment, and what can be done to its process."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from reliable_tasks.dev.binaries import find_rabbitmq
from reliable_tasks.dev.management import Management
from reliable_tasks.dev.processes import ProcessId, end, spawn
from reliable_tasks.dev.rabbitmq import SOONER
from reliable_tasks.dev.state import write_private
from tests.waiting import wait_until

USER = "rtasks"
AMQP, MANAGEMENT = 5672, 15672
"""The standard ports: each node has an address of its own."""

TICK_SECONDS = 8
"""After how long nodes that do not hear from each other part; RabbitMQ's own default is 60."""


@dataclass(frozen=True)
class Shared:
    """What all nodes of a cluster have in common."""

    mark: tuple[str, str]
    """Environment variable by which their processes are found."""
    password: str
    cookie: str
    epmd_port: int
    names: tuple[str, ...]
    """All nodes, as RabbitMQ calls them."""


@dataclass
class Node:
    """One node of the cluster; it is what is killed, stopped and cut off."""

    name: str
    address: str
    distribution_port: int
    home: Path
    shared: Shared
    process: ProcessId | None = None
    paused: bool = False

    @property
    def full_name(self) -> str:
        """As RabbitMQ calls it."""
        return f"{self.name}@{self.address}"

    @property
    def management_url(self) -> str:
        return f"http://{self.address}:{MANAGEMENT}"

    @property
    def management(self) -> Management:
        return Management(self.management_url, USER, self.shared.password)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.alive()

    @property
    def answers(self) -> bool:
        """Whether its process is there and not stopped."""
        return self.running and not self.paused

    def begin(self) -> None:
        """Start it; `wait_ready` waits for it."""
        self.paused = False
        self._write_files()
        server, log = find_rabbitmq().server, self.home / "server.log"
        self.process = spawn([server], env=self.environment(), folder=self.home, log=log, account=None)

    def wait_ready(self, seconds: float = 120) -> None:
        """Wait until clients can connect; fails with the end of its log when it does not come up."""
        wait_until(lambda: self._ready() or self._alive(), f"node {self.name} ({self.home})", seconds)

    def kill(self) -> None:
        """SIGKILL, as in a crash."""
        if self.process is not None:
            end(self.process, [])

    def stop(self) -> None:
        """Shut it down in order."""
        if self.process is not None:
            end(self.process, [(signal.SIGTERM, 60)])

    def pause(self) -> None:
        """SIGSTOP: it is there and says nothing."""
        self.paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)
        self.paused = False

    def _write_files(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        names = self.shared.names
        lines = [
            f"listeners.tcp.1 = {self.address}:{AMQP}",
            f"management.tcp.ip = {self.address}",
            f"management.tcp.port = {MANAGEMENT}",
            f"default_user = {USER}",
            f"default_pass = {self.shared.password}",
            "cluster_formation.peer_discovery_backend = classic_config",
            f"cluster_formation.target_cluster_size_hint = {len(names)}",
            *(
                f"cluster_formation.classic_config.nodes.{place} = {name}"
                for place, name in enumerate(names, 1)
            ),
            "collect_statistics_interval = 1000",
            "raft.wal_max_size_bytes = 67108864",
            "log.console = false",
            "log.file.level = info",
        ]
        write_private(self.home / "rabbitmq.conf", "\n".join(lines) + "\n")
        write_private(self.home / "advanced.config", SOONER)
        write_private(self.home / "enabled_plugins", "[rabbitmq_management].\n")
        if not (self.home / ".erlang.cookie").exists():
            write_private(self.home / ".erlang.cookie", self.shared.cookie, mode=0o400)

    def environment(self) -> dict[str, str]:
        """What makes RabbitMQ's start script start this node."""
        home, place = self.home, "{" + self.address.replace(".", ",") + "}"
        kernel = {
            "inet_dist_use_interface": place,
            # else every node would come from 127.0.0.1, and no rule could tell them apart
            "inet_dist_connect_options": f"[{{ip,{place}}}]",
            "net_ticktime": str(TICK_SECONDS),
        }
        return {
            "PATH": os.pathsep.join([str(find_rabbitmq().erl.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            self.shared.mark[0]: self.shared.mark[1],
            "ERL_EPMD_PORT": str(self.shared.epmd_port),
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODENAME": self.full_name,
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(f"-kernel {key} {kernel[key]}" for key in kernel),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "rabbitmq.pid"),
            # the script then becomes the server instead of staying as its parent
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.alive():
            os.kill(self.process.pid, number)

    def _ready(self) -> bool:
        return self.management.healthy()

    def _alive(self) -> bool:
        if self.running:
            return False
        said = (self.home / "server.log").read_text(errors="replace")[-500:]
        raise AssertionError(f"node {self.name} has ended: {said}")
