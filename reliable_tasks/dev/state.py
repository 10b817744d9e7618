"""What a stack must remember: one file that only its owner may read."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from reliable_tasks.dev.accounts import Account
from reliable_tasks.dev.processes import ProcessId
from reliable_tasks.errors import ServiceStartError

FORMAT = 1
STATE_FILE = "state.json"
LOCK_FILE = "lock"


@dataclass
class BrokerState:
    """The private RabbitMQ."""

    amqp_port: int
    management_port: int
    prometheus_port: int
    distribution_port: int
    epmd_port: int
    password: str = field(repr=False)
    version: str = ""
    server: ProcessId | None = None
    epmd: ProcessId | None = None

    def ports(self) -> list[int]:
        """All ports it listens on."""
        return [
            self.amqp_port,
            self.management_port,
            self.prometheus_port,
            self.distribution_port,
            self.epmd_port,
        ]

    def move(self, ports: Sequence[int]) -> None:
        """Use these ports, in the order of `ports()`, from the next start on."""
        self.amqp_port, self.management_port, self.prometheus_port = ports[:3]
        self.distribution_port, self.epmd_port = ports[3:]


@dataclass
class DatabaseState:
    """The private Postgres; `home` holds its data."""

    home: str
    port: int
    password: str = field(repr=False)
    version: str = ""
    server: ProcessId | None = None


@dataclass
class StackState:
    """Both services and whose they are; a stack with an owner is thrown away when the owner has ended."""

    instance: str
    fsync: bool
    owner: ProcessId | None
    broker: BrokerState
    database: DatabaseState


def new_password() -> str:
    """A password that needs no escaping in URLs and configuration files."""
    return secrets.token_hex(16)


def read_state(folder: Path) -> StackState | None:
    """The remembered stack; None when the folder has none.

    Raises:
        ServiceStartError: when the file is not ours to read or not in this format.
    """
    path = folder / STATE_FILE
    try:
        values = json.loads(path.read_text())
        return _from_json(values)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise ServiceStartError(f"{path} belongs to another user", hint="choose another --folder") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceStartError(
            f"{path} is damaged or from another version",
            hint=f"end what still runs there and remove the folder {folder}",
        ) from error


def write_state(folder: Path, state: StackState) -> None:
    """Replace the file in one step."""
    values = {"format": FORMAT, **asdict(state)}
    write_private(folder / STATE_FILE, json.dumps(values, indent=1) + "\n")


def write_private(path: Path, text: str, *, account: Account | None = None, mode: int = 0o600) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    if account is not None:
        account.own(fresh)
    fresh.replace(path)


@contextmanager
def locked(folder: Path, *, make: bool = False) -> Iterator[bool]:
    """Hold the folder against other `up` and `down` of the same stack; false when there is no such folder.

    Raises:
        ServiceStartError: when the folder cannot be made or belongs to another user.
    """
    while True:
        if make:
            _make(folder)
        if not folder.is_dir():
            yield False
            return
        if folder.stat().st_uid != os.geteuid():
            raise ServiceStartError(f"{folder} belongs to another user", hint="choose another folder")
        file = _locked_file(folder / LOCK_FILE)
        if file is not None:
            with file:
                yield True
            return


def _locked_file(path: Path) -> IO[str] | None:
    with suppress(FileNotFoundError):
        # a lock that others can open is one that others can hold
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w")
        fcntl.flock(file, fcntl.LOCK_EX)
        # whoever held it may have removed the folder and with it the file that we waited for
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()
    return None


def _make(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # root lends Postgres another user, who must get through; every file inside is closed by itself
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    except OSError as error:
        raise ServiceStartError(
            f"{folder} cannot be made: {error.strerror}", hint="choose another folder"
        ) from error


def _from_json(values: dict[str, Any]) -> StackState:
    if values.pop("format") != FORMAT:
        raise ValueError
    broker, database = values.pop("broker"), values.pop("database")
    for record, names in ((values, ("owner",)), (broker, ("server", "epmd")), (database, ("server",))):
        for name in names:
            record[name] = ProcessId(**record[name]) if record[name] else None
    return StackState(broker=BrokerState(**broker), database=DatabaseState(**database), **values)
