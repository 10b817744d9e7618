"""The tables that count the parts of chords."""

from sqlalchemy import CheckConstraint, Column, DateTime, Index, Integer, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB

from reliable_tasks.store.tables import metadata

chords = Table(
    "chords",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("ended", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("shape", JSONB(none_as_null=True)),
    Column("finisher", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("done_at", DateTime(timezone=True)),
    CheckConstraint("state IN ('waiting', 'sent', 'failed')", name="state"),
    CheckConstraint("ended BETWEEN 0 AND size AND failed BETWEEN 0 AND ended", name="counts"),
    CheckConstraint("state = 'waiting' OR ended = size", name="done"),
    CheckConstraint("state <> 'sent' OR failed = 0", name="sent"),
    CheckConstraint("(state = 'waiting') = (done_at IS NULL)", name="done_at"),
    postgresql_with={"fillfactor": "50"},
)

chord_parts = Table(
    "chord_parts",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("group_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    CheckConstraint("state IN ('waiting', 'succeeded', 'failed')", name="state"),
    Index("ix_chord_parts_group_id", "group_id", "position", unique=True),
    postgresql_with={"fillfactor": "90"},
)
