"""Clean state before each measurement: a new database, a new vhost, an empty Redis, a checkpoint."""

from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2

from bench.addresses import VHOST, addresses
from reliable_tasks.dev.management import Management


def connect(database: str) -> Any:
    """An autocommit connection, one commit for each statement."""
    connection = psycopg2.connect(addresses().database(database))
    connection.autocommit = True
    return connection


def statement(database: str, text: str) -> None:
    """Execute it, and be gone."""
    connection = connect(database)
    try:
        connection.cursor().execute(text)
    finally:
        connection.close()


def fresh_database(name: str, template: str = "template0") -> None:
    """Drop it and make it anew."""
    statement("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    statement("postgres", f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


def drop_database(name: str) -> None:
    """Drop it, when it is there."""
    statement("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def has_database(name: str) -> bool:
    """Whether it is there."""
    connection = connect("postgres")
    cursor = connection.cursor()
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
    found = cursor.fetchone() is not None
    connection.close()
    return found


def checkpoint() -> None:
    """Start each measured phase from the same place in the checkpoint cycle."""
    statement("postgres", "CHECKPOINT")


def fresh_vhost() -> None:
    """Remove the vhost with everything in it, and make it anew."""
    management = administrator()
    management.delete_vhost(VHOST)
    management.create_vhost(VHOST)


def administrator() -> Management:
    """The broker's management API."""
    parts = urlsplit(addresses().amqp)
    return Management(addresses().management, unquote(parts.username or ""), unquote(parts.password or ""))


def fresh_redis() -> None:
    """Empty it."""
    redis_client().flushall()


def redis_client(database: int = 0) -> Any:
    """A client of the private Redis."""
    import redis

    return redis.Redis.from_url(f"{addresses().redis}/{database}")
