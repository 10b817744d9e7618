"""A vhost with the topology and a database with the schema, and our programs on them."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.model.shape import Topology
from reliable_tasks.testing.names import session_prefix
from tests.integration.applied_topology import TOPOLOGY, applied
from tests.programs import Done, Process, program, python
from tests.waiting import wait_until


@dataclass(frozen=True)
class Deployment:
    """Where the services of one deployment are, and a folder for logs and marks."""

    broker_url: str
    management_url: str
    database_url: str
    place: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    """Settings that all its programs have."""

    def environment(self, **more: str) -> dict[str, str]:
        """What leads our programs here."""
        return {
            "RELIABLE_TASKS_BROKER_URL": self.broker_url,
            "RELIABLE_TASKS_MANAGEMENT_URL": self.management_url,
            "RELIABLE_TASKS_DATABASE_URL": self.database_url,
            "TESTS_PLACE": str(self.place),
            **self.variables,
            **more,
        }

    def log(self, name: str) -> str:
        """What a program has written so far."""
        return (self.place / f"{name}.log").read_text(errors="replace")

    def python(self, *command: str, **variables: str) -> Done:
        """Run Python to its end."""
        return python(*command, **self.environment(**variables))

    def program(self, name: str, *command: str, **variables: str) -> AbstractContextManager[Process]:
        """Run a program of Python modules until the end of the block, its output in `name`.log."""
        return program(self.place / f"{name}.log", *command, **self.environment(**variables))

    def imported(self, application: str) -> Any:
        """An application's module in this process, for this vhost and database."""
        before = dict(os.environ)
        os.environ.update(self.environment())
        try:
            module = import_module(application)
            module.app.finalize()
            # while the environment names them
            _ = module.app.backend, module.app.runtime.engine, module.app.runtime.publisher
            module.app.conf.broker_url = self.broker_url
            return module
        finally:
            os.environ.clear()
            os.environ.update(before)

    def services(self, application: str, **variables: str) -> AbstractContextManager[Process]:
        """The relay and the collector."""
        command = ("reliable_tasks.cli.main", "services", "-A", f"{application}:app")
        return self.program("services", *command, **variables)

    @contextmanager
    def worker(self, application: str, name: str, *options: str, **variables: str) -> Iterator[Process]:
        """A Celery worker that is ready to take tasks."""
        command = ("celery", "-A", application, "worker", "-l", "INFO", "-n", f"{name}@%h", *options)
        with self.program(name, *command, **variables) as process:
            wait_until(
                lambda: f"{name}@" in self.log(name) and "ready." in self.log(name), f"the worker {name}", 30
            )
            yield process


def deployment_on(
    stack: Stack, broker_url: str, database_url: str, place: Path, shape: Topology = TOPOLOGY
) -> Deployment:
    """A topology, by default this repository's, on an empty vhost, beside a migrated database."""
    applied(shape, Management(stack.management_url, broker_url), broker_url)
    return Deployment(broker_url, stack.management_url, database_url, place)


def new_deployment(stack: Stack, template: str, place: Path, shape: Topology = TOPOLOGY) -> Deployment:
    """A deployment for more than one test; it is removed with the session's other databases and vhosts."""
    name = f"{session_prefix()}deployment_{secrets.token_hex(4)}"
    broker_url, database_url = stack.create_vhost(name), stack.create_database(name, template)
    return deployment_on(stack, broker_url, database_url, place, shape)
