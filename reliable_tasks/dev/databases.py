"""Databases on the private Postgres, made and dropped through psql."""

import os
import re
from pathlib import Path

from reliable_tasks.dev.binaries import find_postgres
from reliable_tasks.dev.ports import LOOPBACK
from reliable_tasks.dev.processes import run
from reliable_tasks.dev.state import DatabaseState, write_private
from reliable_tasks.errors import ConfigurationError

SUPERUSER = "rtasks"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class Databases:
    """Create, list and drop databases."""

    def __init__(self, folder: Path, state: DatabaseState) -> None:
        self._folder = folder
        self._state = state

    def create(self, name: str, template: str | None = None) -> None:
        """Make a database, as a copy of the template when one is given; its connections are ended."""
        if template is None:
            self._sql(f'CREATE DATABASE "{_checked(name)}"')
            return
        source = _checked(template)
        self._sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'",
            f'CREATE DATABASE "{_checked(name)}" TEMPLATE "{source}"',
        )

    def drop(self, name: str) -> None:
        """Drop a database and end its connections; fine when there is none."""
        self._sql(f'DROP DATABASE IF EXISTS "{_checked(name)}" WITH (FORCE)')

    def names(self) -> list[str]:
        """All databases but Postgres's own templates."""
        return self._sql("SELECT datname FROM pg_database WHERE NOT datistemplate").splitlines()

    def server_version(self) -> str:
        """Postgres's version, as in 15.3."""
        return self._sql("SHOW server_version").split()[0]

    def _sql(self, *statements: str) -> str:
        passwords = self._folder / "pgpass"
        entry = f"{LOOPBACK}:{self._state.port}:*:{SUPERUSER}:{self._state.password}\n"
        if not passwords.exists() or passwords.read_text() != entry:
            write_private(passwords, entry)
        commands = [part for statement in statements for part in ("-c", statement)]
        return run(
            [find_postgres().psql, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", *commands],
            env={
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                "PGHOST": LOOPBACK,
                "PGPORT": str(self._state.port),
                "PGUSER": SUPERUSER,
                "PGDATABASE": "postgres",
                "PGPASSFILE": str(passwords),
                "PGCONNECT_TIMEOUT": "10",
            },
            folder=self._folder,
        ).strip()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a database", hint="use letters, digits and underscores"
        )
    return name
