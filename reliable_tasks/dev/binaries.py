"""Where the installed RabbitMQ and Postgres are."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reliable_tasks.errors import ServiceStartError

RABBITMQ_SBIN = "RELIABLE_TASKS_RABBITMQ_SBIN"
POSTGRES_BIN = "RELIABLE_TASKS_POSTGRES_BIN"


@dataclass(frozen=True)
class RabbitmqBinaries:
    """RabbitMQ's own start script and the two Erlang programs it needs."""

    server: Path
    erl: Path
    epmd: Path

    @property
    def rabbitmqctl(self) -> Path:
        """Controls a running server."""
        return self.server.with_name("rabbitmqctl")


@dataclass(frozen=True)
class PostgresBinaries:
    """Postgres's programs, all in one folder."""

    folder: Path

    @property
    def initdb(self) -> Path:
        """Makes the data folder."""
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "postgres"

    @property
    def psql(self) -> Path:
        """The client."""
        return self.folder / "psql"


def find_rabbitmq() -> RabbitmqBinaries:
    """RabbitMQ's real script: the packaged wrapper on PATH insists on root or the user rabbitmq.

    Raises:
        ServiceStartError: when it or Erlang is not installed.
    """
    folder = _folder(
        RABBITMQ_SBIN,
        ("rabbitmq-server", "rabbitmq-env"),
        "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
        "RabbitMQ",
        "apt-get install rabbitmq-server",
    )
    erl, epmd = _erlang(folder, "erl"), _erlang(folder, "epmd")
    if erl is None or epmd is None:
        raise ServiceStartError(
            "RabbitMQ is installed but Erlang (erl, epmd) is neither beside it nor on PATH",
            hint="run `make setup` or `apt-get install erlang-base`",
        )
    return RabbitmqBinaries(folder / "rabbitmq-server", erl, epmd)


def find_postgres() -> PostgresBinaries:
    """Postgres's newest installed server.

    Raises:
        ServiceStartError: when it is not installed.
    """
    folder = _folder(
        POSTGRES_BIN,
        ("postgres", "initdb", "psql"),
        "/usr/lib/postgresql/*/bin",
        "Postgres",
        "apt-get install postgresql",
    )
    return PostgresBinaries(folder)


def missing_services() -> list[str]:
    """What is not installed, in words; empty when private services can be started."""
    missing = []
    for find in (find_rabbitmq, find_postgres):
        try:
            find()
        except ServiceStartError as error:
            missing.append(f"{error.message} ({error.hint})")
    return missing


def _folder(variable: str, programs: Sequence[str], pattern: str, name: str, install: str) -> Path:
    told = os.environ.get(variable)
    if told is not None:
        if _has(Path(told), programs):
            return Path(told)
        raise ServiceStartError(
            f"{variable} names {told}, which has no {programs[0]}",
            hint=f"unset it or name the folder with {', '.join(programs)}",
        )
    for folder in (*_on_path(programs[0]), *_installed(pattern)):
        if _has(folder, programs):
            return folder
    raise ServiceStartError(
        f"{name} is not installed: there is no {programs[0]} on PATH or in {pattern}",
        hint=f"run `make setup` or `{install}`; {variable} may name its folder",
    )


def _on_path(program: str) -> Iterator[Path]:
    found = shutil.which(program)
    if found is not None:
        yield Path(found).resolve().parent


def _installed(pattern: str) -> list[Path]:
    found = Path("/").glob(pattern.lstrip("/"))
    return sorted(found, key=lambda folder: _version(str(folder)), reverse=True)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _has(folder: Path, programs: Sequence[str]) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in programs)


def _erlang(scripts: Path, program: str) -> Path | None:
    # beside RabbitMQ's scripts: they are then of another system, with an Erlang of its own
    if _has(scripts, [program]):
        return scripts / program
    found = shutil.which(program)
    if found is not None:
        return Path(found)
    erl = shutil.which("erl")
    beside = Path(erl).resolve().parent / program if erl else None
    return beside if beside is not None and beside.exists() else None
