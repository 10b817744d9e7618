"""Runs the revisions on the connection that `store.migrations` hands in, or on the one of the settings."""

from sqlalchemy import Connection, text

from alembic import context
from reliable_tasks.settings import load_settings
from reliable_tasks.store.engine import begin, create_engine
from reliable_tasks.store.migrations import only_our_schema
from reliable_tasks.store.tables import SCHEMA, metadata


def run(connection: Connection) -> None:
    """Apply the revisions in the connection's transaction."""
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    # two `db upgrade` at once: the second waits, then finds nothing to do
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('reliable_tasks.migrate'))"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=only_our_schema,
    )
    context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with begin(create_engine(load_settings().database.url_text())) as made:
        run(made)
