"""A private Postgres: its own data, port and password."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from reliable_tasks.dev.accounts import database_account
from reliable_tasks.dev.binaries import PostgresBinaries, find_postgres
from reliable_tasks.dev.databases import SUPERUSER, Databases
from reliable_tasks.dev.ports import LOOPBACK
from reliable_tasks.dev.processes import children, end, run, running_in, spawn, wait_ended
from reliable_tasks.dev.startup import Patience, not_started
from reliable_tasks.dev.state import DatabaseState, write_private

DEFAULT_DATABASE = "reliable_tasks"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
Mode = Literal["fast", "immediate"]
_SIGNALS: dict[Mode, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Database:
    """Control of the private Postgres; every method may be called in any state."""

    def __init__(self, folder: Path, state: DatabaseState, *, fsync: bool, save: Callable[[], None]) -> None:
        self._folder = folder
        self._state = state
        self._fsync = fsync
        self._save = save
        self._account = database_account()
        self.databases = Databases(folder, state)

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._folder / "postgres.log"

    @property
    def running(self) -> bool:
        """Whether the recorded postmaster is alive."""
        return self._state.server is not None and self._state.server.alive()

    def url_for(self, name: str) -> str:
        """The superuser's URL of a database."""
        return (
            f"postgresql+psycopg2://{SUPERUSER}:{self._state.password}@{LOOPBACK}:{self._state.port}/{name}"
        )

    def libpq(self, name: str) -> dict[str, str]:
        """The variables that lead `psql` and every other libpq program to a database."""
        return {
            "PGHOST": LOOPBACK,
            "PGPORT": str(self._state.port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": self._state.password,
            "PGDATABASE": name,
        }

    def begin(self) -> None:
        """Start the server without waiting until it is ready; nothing when it runs."""
        if self.running:
            return
        binaries = find_postgres()
        data = self._make_home() / "data"
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            self._initialise(binaries, data)
        self._end_strays()
        # nothing of ours runs there any more, but its pid may be somebody else's by now
        (data / "postmaster.pid").unlink(missing_ok=True)
        self._state.server = spawn(
            [binaries.postgres, "-D", data, *self._options()],
            env=_environment(),
            folder=data,
            log=self.log,
            account=self._account,
        )
        self._save()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until the server takes connections.

        Raises:
            ServiceStartError: when the server ends or is not ready in time.
        """
        patience = Patience(seconds)
        while not self._says_ready():
            if not self.running:
                raise not_started("Postgres", "ended while it started", self.log)
            if patience.exhausted():
                raise not_started("Postgres", f"was not ready within {seconds:g} s", self.log)
        if not self._state.version:
            self.databases.create(DEFAULT_DATABASE)
            self._state.version = self.databases.server_version()
            self._save()

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        self.begin()
        self.wait_ready()

    def stop(self, mode: Mode = "fast") -> None:
        """Shut down: `fast` ends transactions in order, `immediate` leaves recovery to the next start."""
        self._end([(_SIGNALS[mode], STOP_SECONDS)])

    def kill(self) -> None:
        """Let the server die as in a crash: SIGKILL to the postmaster, then wait for its children."""
        self._end([])

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start again with the same data and port."""
        self.stop(mode)
        self.start()

    def end_all(self, *, orderly: bool) -> None:
        """End the server with all its processes."""
        if orderly:
            self.stop()
        else:
            self.kill()

    def _end(self, steps: list[tuple[signal.Signals, float]]) -> None:
        if self._state.server is not None:
            backends = children(self._state.server)
            end(self._state.server, steps)
            for process in wait_ended(backends, 5):
                end(process, [])
        self._end_strays()

    def _end_strays(self) -> None:
        for process in running_in(self._data().resolve(), "postgres"):
            end(process, [])

    def _data(self) -> Path:
        return Path(self._state.home) / "data"

    def _make_home(self) -> Path:
        """The folder of the data; elsewhere when Postgres's user cannot reach ours."""
        home = Path(self._state.home)
        if not home.exists():
            if self._account is not None and not self._account.can_reach(self._folder):
                home = Path(tempfile.mkdtemp(prefix="reliable-tasks-postgres-", dir="/var/tmp"))
                self._state.home = str(home)
                self._save()
            home.mkdir(mode=0o700, exist_ok=True)
            if self._account is not None:
                self._account.own(home)
        return home

    def _initialise(self, binaries: PostgresBinaries, data: Path) -> None:
        password = data.parent / "password"
        write_private(password, self._state.password + "\n", account=self._account)
        try:
            argv: list[str | Path] = [binaries.initdb, "-D", data, "-U", SUPERUSER, "-A", "scram-sha-256"]
            argv += ["-E", "UTF8", "--no-locale", f"--pwfile={password}"]
            if not self._fsync:
                argv.append("--no-sync")
            run(argv, env=_environment(), folder=data.parent, account=self._account)
        except BaseException:
            shutil.rmtree(data, ignore_errors=True)
            raise
        finally:
            password.unlink(missing_ok=True)

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self._state.port),
            # loopback with a password is the only door; a socket path may be too long besides
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._fsync:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _says_ready(self) -> bool:
        try:
            lines = (self._data() / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        server = self._state.server
        return server is not None and len(lines) >= 8 and lines[0] == str(server.pid) and "ready" in lines[7]


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}
