"""The payments application on a deployment of its own, with real worker and services processes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.database import Database
from tests.deployment import Deployment
from tests.programs import Process

APP = "tests.acceptance.bank_app"

LEDGER = """
CREATE SCHEMA bank;
CREATE TABLE bank.accounts (account_id text PRIMARY KEY, balance numeric(20, 2) NOT NULL);
CREATE TABLE bank.effects (id bigint GENERATED ALWAYS AS IDENTITY, order_id text, amount numeric(20, 2));
INSERT INTO bank.accounts SELECT n::text, 1000 FROM generate_series(1, 20) n;
"""


@dataclass(frozen=True)
class Bank:
    """A deployment in motion, and its database."""

    around: Deployment
    database: Database
    programs: ExitStack = field(default_factory=ExitStack)

    def worker(self, name: str, *options: str, application: str = APP, **variables: str) -> Process:
        """A worker that goes on until the end of the test."""
        running = self.around.worker(application, name, "--concurrency", "2", *options, **variables)
        return self.programs.enter_context(running)

    def services(self) -> Process:
        """Services that go on until the end of the test."""
        return self.programs.enter_context(self.around.services(APP))


@contextmanager
def bank(around: Deployment) -> Iterator[Bank]:
    """The deployment with its accounts at 1000 each."""
    database = Database(around.database_url)
    database.rows(LEDGER)
    running = Bank(around, database)
    with running.programs:
        yield running
    database.engine.dispose()
