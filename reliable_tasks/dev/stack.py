"""One private RabbitMQ and one private Postgres, remembered in one folder."""

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reliable_tasks.dev.binaries import find_postgres, find_rabbitmq
from reliable_tasks.dev.ports import all_free, free_ports
from reliable_tasks.dev.postgres import DEFAULT_DATABASE, Database
from reliable_tasks.dev.processes import this_process
from reliable_tasks.dev.rabbitmq import Broker
from reliable_tasks.dev.state import (
    LOCK_FILE,
    STATE_FILE,
    BrokerState,
    DatabaseState,
    StackState,
    locked,
    new_password,
    read_state,
    write_state,
)
from reliable_tasks.errors import ServiceStartError

DEFAULT_VHOST = "/"
_OURS = ("rabbitmq", "postgres")
_FILES = ("postgres.log", "pgpass", STATE_FILE, LOCK_FILE)


@dataclass(frozen=True)
class Status:
    """What a stack does now: `running` or `stopped` for each service."""

    folder: str
    broker: str
    database: str
    rabbitmq_version: str
    postgres_version: str

    @property
    def running(self) -> bool:
        """Whether both services run."""
        return self.broker == self.database == "running"


class Stack:
    """A private RabbitMQ and Postgres on loopback. Get one from `up` or `find`."""

    def __init__(self, folder: Path, state: StackState) -> None:
        self.folder = folder
        self._state = state
        self.broker = Broker(folder, state.instance, state.broker, self._save)
        self.database = Database(folder, state.database, fsync=state.fsync, save=self._save)

    @classmethod
    def up(
        cls,
        folder: Path,
        *,
        fsync: bool = True,
        ephemeral: bool = False,
        progress: Callable[[str], None] = lambda text: None,
    ) -> "Stack":
        """Start both services in this folder, or use those that run there.

        Args:
            folder: holds everything; made when it is not there.
            fsync: False makes a new Postgres faster and its data worthless after a crash of the machine.
            ephemeral: the stack is this process's: when the process has ended, the next `up` or
                `clean_abandoned` throws it away.
            progress: is told, for people, what is done.

        Raises:
            ServiceStartError: when something is not installed or does not start.
        """
        for find in (find_rabbitmq, find_postgres):
            find()
        folder = folder.expanduser().resolve()
        with locked(folder, make=True):
            stack = cls._remembered(folder)
            if stack is not None and stack.abandoned:
                progress("cleaning up a stack whose owner has ended")
                stack._throw_away()
                stack = None
            if stack is None:
                stack = cls._fresh(folder, fsync=fsync, ephemeral=ephemeral)
            stack._start(progress)
        return stack

    @classmethod
    def find(cls, folder: Path) -> "Stack | None":
        """The stack of this folder, running or not; None when there is none.

        Raises:
            ServiceStartError: when its state cannot be read.
        """
        return cls._remembered(folder.expanduser().resolve()) if folder.is_dir() else None

    def down(self, *, keep: bool = False) -> None:
        """End every process of the stack; removes the data unless it shall be kept for the next `up`."""
        with locked(self.folder) as there:
            if not there:
                return
            if keep:
                self.broker.end_all(orderly=True)
                self.database.end_all(orderly=True)
            else:
                self._throw_away()

    @property
    def abandoned(self) -> bool:
        """Whether the process that it was started for has ended."""
        owner = self._state.owner
        return owner is not None and not owner.alive()

    @property
    def status(self) -> Status:
        """What runs now."""
        return Status(
            str(self.folder),
            "running" if self.broker.running else "stopped",
            "running" if self.database.running else "stopped",
            self.rabbitmq_version,
            self.postgres_version,
        )

    @property
    def broker_url(self) -> str:
        """AMQP URL of the vhost `/`, with credentials."""
        return self.broker.url_for(DEFAULT_VHOST)

    @property
    def management_url(self) -> str:
        """RabbitMQ's management API and pages, without credentials."""
        return self.broker.management_url

    @property
    def prometheus_url(self) -> str:
        """RabbitMQ's own metrics."""
        return self.broker.prometheus_url

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database `reliable_tasks`, with credentials."""
        return self.database.url_for(DEFAULT_DATABASE)

    @property
    def rabbitmq_version(self) -> str:
        """RabbitMQ's version, as in 3.10.8."""
        return self._state.broker.version

    @property
    def postgres_version(self) -> str:
        """Postgres's version, as in 15.3."""
        return self._state.database.version

    def environment(self) -> dict[str, str]:
        """The settings that lead our programs to this stack, with credentials."""
        return {
            "RELIABLE_TASKS_BROKER_URL": self.broker_url,
            "RELIABLE_TASKS_MANAGEMENT_URL": self.management_url,
            "RELIABLE_TASKS_DATABASE_URL": self.database_url,
        }

    def shell_environment(self) -> dict[str, str]:
        """As `environment`, and what `psql` needs."""
        return {**self.environment(), **self.database.libpq(DEFAULT_DATABASE)}

    def broker_url_for(self, vhost: str) -> str:
        """AMQP URL of a vhost, with credentials."""
        return self.broker.url_for(vhost)

    def database_url_for(self, name: str) -> str:
        """SQLAlchemy URL of a database, with credentials."""
        return self.database.url_for(name)

    def create_vhost(self, name: str) -> str:
        """Make a vhost; returns its URL."""
        self.broker.management.create_vhost(name)
        return self.broker_url_for(name)

    def delete_vhost(self, name: str) -> None:
        """Remove a vhost with everything in it."""
        self.broker.management.delete_vhost(name)

    def create_user(
        self, name: str, password: str, vhost: str, configure: str, write: str, read: str, tags: str = ""
    ) -> None:
        """Make a broker user with permissions, as regular expressions, in one vhost."""
        self.broker.management.create_user(name, password, vhost, configure, write, read, tags)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database, as a copy of the template when one is given; returns its URL."""
        self.database.databases.create(name, template)
        return self.database_url_for(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its connections."""
        self.database.databases.drop(name)

    def _start(self, progress: Callable[[str], None]) -> None:
        services = [service for service in (self.database, self.broker) if not service.running]
        progress("starting RabbitMQ and Postgres" if services else "both services run already")
        self._move_from_taken_ports()
        try:
            for service in reversed(services):
                service.begin()
            self.database.wait_ready()
            self.broker.wait_ready()
        except BaseException:
            # what was half started would outlive a program that knows nothing of it
            for service in services:
                service.end_all(orderly=False)
            raise
        progress(f"RabbitMQ {self.rabbitmq_version} and Postgres {self.postgres_version} are ready")

    def _move_from_taken_ports(self) -> None:
        broker, database = self._state.broker, self._state.database
        if not self.broker.running:
            self.broker.end_all(orderly=False)
            if not all_free(broker.ports()):
                broker.move(free_ports(len(broker.ports())))
        if not self.database.running and not all_free([database.port]):
            (database.port,) = free_ports(1)
        self._save()

    def _throw_away(self) -> None:
        self.broker.end_all(orderly=False)
        self.database.end_all(orderly=False)
        shutil.rmtree(self._state.database.home, ignore_errors=True)
        for name in _OURS:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in _FILES:
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _save(self) -> None:
        write_state(self.folder, self._state)

    @classmethod
    def _remembered(cls, folder: Path) -> "Stack | None":
        state = read_state(folder)
        return None if state is None else cls(folder, state)

    @classmethod
    def _fresh(cls, folder: Path, *, fsync: bool, ephemeral: bool) -> "Stack":
        for name in _OURS:
            if (folder / name).exists():
                raise ServiceStartError(
                    f"{folder / name} is there but not from a stack of ours", hint="choose another folder"
                )
        *broker_ports, database_port = free_ports(6)
        amqp, management, prometheus, distribution, epmd = broker_ports
        state = StackState(
            instance=secrets.token_hex(6),
            fsync=fsync,
            owner=this_process() if ephemeral else None,
            broker=BrokerState(amqp, management, prometheus, distribution, epmd, new_password()),
            database=DatabaseState(str(folder / "postgres"), database_port, new_password()),
        )
        write_state(folder, state)
        return cls(folder, state)
