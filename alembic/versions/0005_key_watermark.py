"""Keys are kept for a time, and the time up to which they are forgotten is kept for ever.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE reliable_tasks.key_watermark (
            id SMALLINT NOT NULL,
            at TIMESTAMP WITH TIME ZONE NOT NULL,
            CONSTRAINT pk_key_watermark PRIMARY KEY (id),
            CONSTRAINT ck_key_watermark_one CHECK (id = 1)
        )
        """
    )
    # the column never changes, so updates of a claim still need not write any index
    op.execute("CREATE INDEX ix_claims_first_seen ON reliable_tasks.claims (first_seen)")


def downgrade() -> None:
    op.execute("DROP INDEX reliable_tasks.ix_claims_first_seen")
    op.execute("DROP TABLE reliable_tasks.key_watermark")
