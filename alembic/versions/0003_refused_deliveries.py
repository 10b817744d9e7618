"""Deliveries whose rows the database has refused are noted, so that they can be counted apart from others.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS = ("duplicate", "redelivered", "conflict", "busy", "takeover", "fenced")


def upgrade() -> None:
    _allow((*KINDS, "unrecordable"))
    op.execute(
        "CREATE INDEX ix_suppressed_deliveries_unrecordable ON reliable_tasks.suppressed_deliveries (task_id) "
        "WHERE kind = 'unrecordable'"
    )


def downgrade() -> None:
    op.execute("DROP INDEX reliable_tasks.ix_suppressed_deliveries_unrecordable")
    op.execute("DELETE FROM reliable_tasks.suppressed_deliveries WHERE kind = 'unrecordable'")
    _allow(KINDS)


def _allow(kinds: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.execute(
        "ALTER TABLE reliable_tasks.suppressed_deliveries DROP CONSTRAINT ck_suppressed_deliveries_kind, "
        f"ADD CONSTRAINT ck_suppressed_deliveries_kind CHECK (kind IN ({listed}))"
    )
