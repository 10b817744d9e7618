"""The users of one deployment, one for each role, with the rights that deploy/ gives to it and no others."""

import csv
import secrets
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import create_engine, text

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import Deployment
from tests.programs import ROOT

DATABASE_ROLES = ("producer", "worker", "services", "operator", "auditor")
GRANTS = (ROOT / "deploy/grants.sql").read_text()


def broker_permissions() -> dict[str, dict[str, str]]:
    """By role: configure, write and read as regular expressions, and tags."""
    with (ROOT / "deploy/broker-permissions.tsv").open() as table:
        return {row["role"]: row for row in csv.DictReader(table, delimiter="\t")}


@dataclass(frozen=True)
class Roles:
    """A deployment with a broker user and a database user for each role."""

    around: Deployment
    password: str
    names: dict[str, str]

    def as_(self, role: str) -> Deployment:
        """The same deployment for a user of this role; one without rights where the role has no user."""
        broker, database = urlsplit(self.around.broker_url), urlsplit(self.around.database_url)
        user = f"{self.names[role]}:{self.password}"
        return replace(
            self.around,
            broker_url=f"amqp://{user}@{broker.hostname}:{broker.port}{broker.path}",
            database_url=f"postgresql+psycopg2://{user}@{database.hostname}:{database.port}{database.path}",
        )

    def engine(self, role: str) -> Any:
        return create_engine(self.as_(role).database_url)


def make_roles(stack: Stack, around: Deployment) -> Roles:
    """Carry out deploy/grants.sql and deploy/broker-permissions.tsv, and make the users."""
    database, password = Database(around.database_url), secrets.token_hex(8)
    vhost = urlsplit(around.broker_url).path[1:]
    with database.engine.begin() as connection:
        connection.connection.cursor().execute(GRANTS)
    permissions = broker_permissions()
    names = {role: f"{vhost}_{role}" for role in {*permissions, *DATABASE_ROLES}}
    for role, rights in permissions.items():
        kinds = (rights[name] for name in ("configure", "write", "read"))
        stack.create_user(names[role], password, vhost, *kinds, tags=rights["tags"] or "")
    with database.engine.begin() as connection:
        for role, name in names.items():
            member = "auditor" if role == "exporter" else role
            connection.execute(
                text(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}' IN ROLE reliable_{member}")
            )
    database.engine.dispose()
    return Roles(around, password, names)


def drop_roles(stack: Stack, roles: Roles) -> None:
    """Remove the users; their groups, which other databases may use, stay."""
    database = Database(roles.around.database_url)
    for name in roles.names.values():
        database.rows(f'DROP ROLE "{name}"')
        stack.broker.management.delete_user(name)
    database.engine.dispose()
