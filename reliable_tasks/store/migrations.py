"""The schema's revisions: apply them, see where a database is, compare it with the declared tables."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from alembic import command
from reliable_tasks.errors import MigrationMissing
from reliable_tasks.store import tables_of_chords  # noqa: F401  its tables join the others in the metadata
from reliable_tasks.store.engine import begin, create_engine
from reliable_tasks.store.tables import SCHEMA, metadata

VERSION_TABLE = "alembic_version"


def script_location() -> Path:
    """The folder of the revisions: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_alembic", package.parent / "alembic"):
        if (folder / "env.py").is_file():
            return folder
    raise MigrationMissing("the Alembic revisions are not installed", hint="install the package anew")


def upgrade(url: str, revision: str = "head") -> None:
    """Apply every missing revision, up to this one, to the database at `url`, in one transaction.

    Raises:
        DatabaseUnreachable: when it cannot be reached.
    """
    engine = create_engine(url)
    try:
        with begin(engine) as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        engine.dispose()


def current(url: str) -> str | None:
    """The revision the database is at; None before the first."""
    engine = create_engine(url)
    try:
        with begin(engine) as connection:
            return _context_of(connection).get_current_revision()
    finally:
        engine.dispose()


def newest() -> str | None:
    """The newest packaged revision."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def check(url: str) -> list[str]:
    """How the database differs from what is declared, one line each; empty when it does not."""
    engine = create_engine(url)
    try:
        with begin(engine) as connection:
            context = _context_of(connection)
            found, wanted = context.get_current_revision(), newest()
            lines = [] if found == wanted else [f"revision is {found or 'none'}, newest is {wanted}"]
            if found is not None:
                lines += [str(difference) for difference in compare_metadata(context, metadata)]
            return lines
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()))
    return config


def _context_of(connection: object) -> MigrationContext:
    return MigrationContext.configure(
        connection,  # type: ignore[arg-type]  # any Connection will do
        opts={
            "version_table_schema": SCHEMA,
            "include_schemas": True,
            "include_name": only_our_schema,
            "compare_server_default": False,
        },
    )


def only_our_schema(name: str | None, kind: str, _parents: object) -> bool:
    """Whether autogenerate looks at it: our schema, and of it not the archive (a plain copy of the view)."""
    if kind == "schema":
        return name == SCHEMA
    return not (kind == "table" and name == VERSION_TABLE)
