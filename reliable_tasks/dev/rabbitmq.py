"""A private RabbitMQ: its own node, cookie, epmd, ports and data."""

import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from reliable_tasks.dev.binaries import find_rabbitmq
from reliable_tasks.dev.management import Management
from reliable_tasks.dev.ports import LOOPBACK, accepts
from reliable_tasks.dev.processes import ProcessId, end, run, spawn, wait_ended, with_variable
from reliable_tasks.dev.startup import Patience, not_started
from reliable_tasks.dev.state import BrokerState, write_private

ADMINISTRATOR = "rtasks"
START_SECONDS = 90.0
STOP_SECONDS = 30.0
MARK = "RELIABLE_TASKS_DEV_INSTANCE"
_PLUGINS = "[rabbitmq_management,rabbitmq_prometheus,rabbitmq_shovel,rabbitmq_shovel_management]."

# what is new in a quorum queue is counted each second instead of each five, and a dead letter that its queue did not
# take is tried again after two seconds instead of three minutes: people and tests want to see it
SOONER = """[{rabbit, [
    {quorum_tick_interval, 1000},
    {dead_letter_worker_publisher_confirm_timeout, 2000}
]}].
"""


class Broker:
    """Control of the private RabbitMQ; every method may be called in any state."""

    def __init__(self, folder: Path, instance: str, state: BrokerState, save: Callable[[], None]) -> None:
        self._home = folder / "rabbitmq"
        self._instance = instance
        self._state = state
        self._save = save

    @property
    def management(self) -> Management:
        """The management API as the administrator."""
        return Management(self.management_url, ADMINISTRATOR, self._state.password)

    @property
    def management_url(self) -> str:
        """Where the management API and pages are, without credentials."""
        return f"http://{LOOPBACK}:{self._state.management_port}"

    @property
    def prometheus_url(self) -> str:
        """Where the broker's own metrics are."""
        return f"http://{LOOPBACK}:{self._state.prometheus_port}/metrics"

    @property
    def log(self) -> Path:
        """What the server wrote about its start."""
        return self._home / "server.log"

    @property
    def running(self) -> bool:
        """Whether the recorded server process is alive."""
        return self._state.server is not None and self._state.server.alive()

    def url_for(self, vhost: str) -> str:
        """The administrator's AMQP URL of a vhost."""
        credentials = f"{ADMINISTRATOR}:{self._state.password}"
        return f"amqp://{credentials}@{LOOPBACK}:{self._state.amqp_port}/{quote(vhost, safe='')}"

    def begin(self) -> None:
        """Start the server without waiting until it is ready; nothing when it runs."""
        if self.running:
            return
        binaries = find_rabbitmq()
        self._end_strays()
        self._write_files()
        env = self._environment(binaries.erl)
        if self._state.epmd is None or not self._state.epmd.alive():
            self._state.epmd = self._start_epmd(binaries.epmd, env)
        self._state.server = spawn([binaries.server], env=env, folder=self._home, log=self.log, account=None)
        self._save()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until clients can connect and no alarm is set.

        Raises:
            ServiceStartError: when the server ends or is not ready in time.
        """
        patience = Patience(seconds)
        while not (accepts(self._state.amqp_port) and self.management.healthy()):
            if not self.running:
                raise not_started("RabbitMQ", "ended while it started", self.log)
            if patience.exhausted():
                raise not_started("RabbitMQ", f"was not ready within {seconds:g} s", self.log)
        if not self._state.version:
            self._state.version = self.management.version()
            self._save()

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        self.begin()
        self.wait_ready()

    def stop(self) -> None:
        """Shut the server down in order; its epmd stays."""
        if self._state.server is not None:
            end(self._state.server, [(signal.SIGTERM, STOP_SECONDS)])
        self._end_strays()

    def kill(self, *, settle_seconds: float = 10.0) -> None:
        """Let the server die as in a crash (SIGKILL); its epmd stays.

        RabbitMQ writes the name of a new quorum queue to disk about a second after it has confirmed the
        declaration; a crash before that leaves the queue without a leader for ever (seen on 3.10.8). So this
        waits until the names of all queues are written; `settle_seconds=0` does not wait.
        """
        if self.running and settle_seconds:
            self._wait_names_written(settle_seconds)
        self._kill()

    def restart(self) -> None:
        """Shut down in order and start again with the same data and ports."""
        self.stop()
        self.start()

    def rabbitmqctl(self, *words: str) -> str:
        """Run RabbitMQ's own control program on the server, and return what it printed.

        Raises:
            ServiceStartError: when it fails.
        """
        binaries = find_rabbitmq()
        environment = self._environment(binaries.erl)
        return run([binaries.rabbitmqctl, "--silent", *words], env=environment, folder=self._home)

    def end_all(self, *, orderly: bool) -> None:
        """End the server and its epmd."""
        if orderly:
            self.stop()
        else:
            self._kill()
        if self._state.epmd is not None:
            end(self._state.epmd, [(signal.SIGTERM, 5)])
        self._end_strays(but_epmd=False)

    def _kill(self) -> None:
        if self._state.server is not None:
            end(self._state.server, [])
        self._end_strays()

    def _wait_names_written(self, seconds: float) -> None:
        queues = self.management.quorum_queues()
        patience = Patience(seconds)
        while not all(name in self._written_names() for name in queues):
            if patience.exhausted():
                return

    def _written_names(self) -> bytes:
        return b"".join(file.read_bytes() for file in self._home.glob("mnesia/*/quorum/*/names.dets"))

    def _end_strays(self, *, but_epmd: bool = True) -> None:
        epmd = self._state.epmd if but_epmd else None
        strays = [process for process in with_variable(MARK, self._instance) if process != epmd]
        # Erlang's helpers leave by themselves when their pipe closes
        for process in wait_ended(strays, 2):
            end(process, [])

    def _start_epmd(self, epmd: Path, env: dict[str, str]) -> ProcessId:
        port = self._state.epmd_port
        process = spawn(
            [epmd, "-port", str(port), "-address", LOOPBACK],
            env=env,
            folder=self._home,
            log=self._home / "epmd.log",
            account=None,
        )
        patience = Patience(10)
        while not accepts(port):
            if not process.alive() or patience.exhausted():
                raise not_started("epmd", f"does not listen on port {port}", self._home / "epmd.log")
        return process

    def _write_files(self) -> None:
        self._home.mkdir(mode=0o700, exist_ok=True)
        state = self._state
        lines = [
            f"listeners.tcp.1 = {LOOPBACK}:{state.amqp_port}",
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {state.management_port}",
            f"prometheus.tcp.ip = {LOOPBACK}",
            f"prometheus.tcp.port = {state.prometheus_port}",
            f"default_user = {ADMINISTRATOR}",
            f"default_pass = {state.password}",
            # people and tests want to see now, not five seconds ago
            "collect_statistics_interval = 1000",
            "raft.wal_max_size_bytes = 67108864",
            "log.console = false",
            "log.file.level = info",
        ]
        write_private(self._home / "rabbitmq.conf", "\n".join(lines) + "\n")
        write_private(self._home / "advanced.config", SOONER)
        write_private(self._home / "enabled_plugins", _PLUGINS + "\n")
        cookie = self._home / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, secrets.token_hex(20), mode=0o400)

    def _environment(self, erl: Path) -> dict[str, str]:
        home, state = self._home, self._state
        return {
            "PATH": os.pathsep.join([str(erl.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8",
            "HOME": str(home),
            MARK: self._instance,
            "ERL_EPMD_PORT": str(state.epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"rt-{self._instance}@localhost",
            "RABBITMQ_DIST_PORT": str(state.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
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
