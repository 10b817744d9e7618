"""A synchronous standby of the private Postgres: no commit is told before the standby has it, and it can take over."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2

from reliable_tasks.dev import Stack
from reliable_tasks.dev.binaries import find_postgres
from reliable_tasks.dev.databases import SUPERUSER
from reliable_tasks.dev.ports import LOOPBACK, free_ports
from reliable_tasks.dev.postgres import Database
from reliable_tasks.dev.processes import ProcessId, children, run
from reliable_tasks.dev.state import DatabaseState
from tests.waiting import wait_until

NAME = "standby"
START_SECONDS = 60.0
WAITING = "pg_stat_activity WHERE wait_event = 'SyncRep'"
"""Sessions whose transaction is committed here, and waits for the standby."""

CANCEL = f"SELECT count(pg_cancel_backend(pid)) FROM {WAITING}"
"""They wait no longer; returns how many there were."""


class Server:
    """One of the two Postgres servers."""

    def __init__(self, state: DatabaseState, folder: Path) -> None:
        self.state = state
        self.database = Database(folder, state, fsync=False, save=lambda: None)

    def ask(self, query: str, database: str = "postgres") -> Any:
        """The first column of the first row; each query is a transaction of its own."""
        url = self.database.url_for(database).replace("+psycopg2", "")
        with closing(psycopg2.connect(url, connect_timeout=10)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                row = cursor.fetchone() if cursor.description else None
                return row[0] if row else None

    def stand_still(self) -> None:
        """SIGSTOP, to all its processes."""
        for process in self._processes():
            _signal(process, signal.SIGSTOP)

    def go_on(self) -> None:
        for process in self._processes():
            _signal(process, signal.SIGCONT)

    def remove(self) -> None:
        """End it, as a machine ends that is switched off; its data go, too."""
        self.database.kill()
        shutil.rmtree(self.state.home, ignore_errors=True)

    def _processes(self) -> list[ProcessId]:
        server = self.state.server
        return [] if server is None else [server, *children(server)]


class Pair:
    """The stack's Postgres and its standby."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        state = stack._state.database
        (port,) = free_ports(1)
        home = Path(state.home).with_name(f"postgres-{port}")
        self.primary = Server(replace(state), stack.folder)
        self.standby = Server(replace(state, home=str(home), port=port, server=None), home)

    def replicate(self) -> None:
        """Copy the primary, start the copy, and let every commit wait for it."""
        home, account = Path(self.standby.state.home), self.standby.database._account
        home.mkdir(mode=0o700)
        if account is not None:
            account.own(home)
        of = self.primary.state
        source = f"host={LOOPBACK} port={of.port} user={SUPERUSER} application_name={NAME}"
        program = find_postgres().folder / "pg_basebackup"
        run(
            [program, "-d", source, "-D", home / "data", "-R", "-X", "stream", "-c", "fast", "--no-sync"],
            env={"PATH": os.defpath, "PGPASSWORD": of.password},
            folder=home,
            account=account,
        )
        self.standby.database.begin()
        self.primary.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        self.primary.ask("SELECT pg_reload_conf()")
        wait_until(self.in_step, f"the standby to follow, see {self.standby.database.log}", START_SECONDS)

    def in_step(self) -> bool:
        """Whether the primary waits for the standby."""
        query = f"SELECT sync_state FROM pg_stat_replication WHERE application_name = '{NAME}'"
        return bool(self.primary.ask(query) == "sync")

    def wait_no_longer(self) -> None:
        """Let the primary's commits wait for nobody, also those that wait now."""
        self.primary.ask("ALTER SYSTEM RESET synchronous_standby_names")
        self.primary.ask("SELECT pg_reload_conf()")

    def take_over(self) -> None:
        """Make the standby the primary, and the stack's database from now on. The old primary is not asked."""
        wait_until(lambda: self.standby.ask("SELECT pg_promote()"), "the standby to take over", START_SECONDS)
        self.standby.database.wait_ready()
        ours, new = self._stack._state.database, self.standby.state
        ours.home, ours.port, ours.server = new.home, new.port, new.server
        self._stack._save()

    def end(self) -> None:
        """Leave the stack with the one that is its database, which waits for nobody."""
        if self._stack._state.database.port == self.standby.state.port:
            self.primary.remove()
            return
        self.standby.remove()
        self.primary.go_on()
        self._stack.database.start()
        self.wait_no_longer()


@contextmanager
def synchronous_standby(stack: Stack) -> Iterator[Pair]:
    """A pair in step, until the end of the block; whichever is then not the stack's database is removed."""
    pair = Pair(stack)
    try:
        pair.replicate()
        yield pair
    finally:
        pair.end()


@contextmanager
def standby_away(stack: Stack, do: Callable[[], Any]) -> Iterator[tuple[Pair, Future[Any]]]:
    """Something that is done while the standby is away."""
    with synchronous_standby(stack) as pair, ThreadPoolExecutor(1) as pool:
        try:
            pair.standby.database.kill()
            yield pair, pool.submit(do)
        finally:
            pair.wait_no_longer()


def _signal(process: ProcessId, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
