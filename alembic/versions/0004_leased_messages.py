"""The message of each execution that a lease guards, so that one which nobody delivers again is not lost with it.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE reliable_tasks.leased_messages (
            task_name TEXT NOT NULL,
            key TEXT NOT NULL,
            task_id TEXT NOT NULL,
            queue TEXT NOT NULL,
            body BYTEA NOT NULL,
            headers JSONB NOT NULL,
            properties JSONB NOT NULL,
            priority SMALLINT,
            CONSTRAINT pk_leased_messages PRIMARY KEY (task_name, key)
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE reliable_tasks.leased_messages")
