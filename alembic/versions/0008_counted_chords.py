"""Parts of a chord are counted where they are recorded: its body is sent by the last one, and nobody asks in between.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE reliable_tasks.chords (
            group_id TEXT NOT NULL,
            size INTEGER NOT NULL,
            ended INTEGER DEFAULT 0 NOT NULL,
            failed INTEGER DEFAULT 0 NOT NULL,
            state TEXT DEFAULT 'waiting' NOT NULL,
            shape JSONB,
            finisher JSONB,
            created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
            done_at TIMESTAMP WITH TIME ZONE,
            CONSTRAINT pk_chords PRIMARY KEY (group_id),
            CONSTRAINT ck_chords_state CHECK (state IN ('waiting', 'sent', 'failed')),
            CONSTRAINT ck_chords_counts CHECK (ended BETWEEN 0 AND size AND failed BETWEEN 0 AND ended),
            CONSTRAINT ck_chords_done CHECK (state = 'waiting' OR ended = size),
            CONSTRAINT ck_chords_sent CHECK (state <> 'sent' OR failed = 0),
            CONSTRAINT ck_chords_done_at CHECK ((state = 'waiting') = (done_at IS NULL))
        ) WITH (fillfactor=50)
        """
    )
    op.execute(
        """
        CREATE TABLE reliable_tasks.chord_parts (
            task_id TEXT NOT NULL,
            group_id TEXT NOT NULL,
            position INTEGER NOT NULL,
            state TEXT DEFAULT 'waiting' NOT NULL,
            CONSTRAINT pk_chord_parts PRIMARY KEY (task_id),
            CONSTRAINT ck_chord_parts_state CHECK (state IN ('waiting', 'succeeded', 'failed'))
        ) WITH (fillfactor=90)
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX ix_chord_parts_group_id ON reliable_tasks.chord_parts (group_id, position)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE reliable_tasks.chord_parts")
    op.execute("DROP TABLE reliable_tasks.chords")
