"""Where the services under measurement are. The runner says it in the environment, for itself and its children."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from reliable_tasks.dev import Stack

VHOST = "bench"


@dataclass(frozen=True)
class Addresses:
    """Of one run.

    Args:
        amqp: amqp://user:password@host:port, without a vhost.
        postgres: postgresql://user:password@host:port of a superuser, without a database.
        redis: redis://host:port of a server that may be flushed; empty when nothing needs it.
        logs: the folder for what workers write.
    """

    amqp: str
    management: str
    postgres: str
    redis: str
    logs: str

    @classmethod
    def of(cls, stack: Stack, redis: str, logs: Path) -> "Addresses":
        """Those of a private stack."""
        return cls(
            amqp=stack.broker_url_for("x").rpartition("/")[0],
            management=stack.management_url,
            postgres=stack.database_url_for("x").rpartition("/")[0].replace("+psycopg2", "", 1),
            redis=redis,
            logs=str(logs),
        )

    @property
    def vhost(self) -> str:
        """The broker's URL of the vhost in which everything happens."""
        return f"{self.amqp}/{VHOST}"

    def database(self, name: str, driver: str = "") -> str:
        """The URL of a database, for SQLAlchemy when a driver is named."""
        scheme, _, rest = self.postgres.partition("://")
        return f"{scheme}{'+' + driver if driver else ''}://{rest}/{name}"

    def environment(self) -> dict[str, str]:
        """What tells a child."""
        return {_variable(one.name): getattr(self, one.name) for one in fields(self)}


def addresses(environ: Mapping[str, str] = os.environ) -> Addresses:
    """Those that the runner has said."""
    return Addresses(**{one.name: environ[_variable(one.name)] for one in fields(Addresses)})


def _variable(name: str) -> str:
    return f"BENCH_{name.upper()}"
