"""The tables as SQLAlchemy sees them. Alembic's revisions make them; a test holds both equal."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from reliable_tasks.model.states import WAITING, ClaimState, DeadLetterState, TaskState

SCHEMA = "reliable_tasks"
metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    },
)

ATTEMPT_STATES = ("succeeded", "failed", "lost", "uncertain", "timed_out")


def _one_of(column: str, states: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(repr(str(state)) for state in states)})"


def _time(name: str, **options: Any) -> Column[Any]:
    return Column(name, DateTime(timezone=True), **options)


_now = func.clock_timestamp()

claims = Table(
    "claims",
    metadata,
    Column("task_name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("replay", Integer, nullable=False, server_default="0"),
    Column("owner", Uuid),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("may_have_acted", SmallInteger, nullable=False, server_default="0"),
    _time("lease_until"),
    _time("first_seen", nullable=False, server_default=_now),
    CheckConstraint(_one_of("state", ClaimState), name="state"),
    CheckConstraint(
        "(state = 'running') = (owner IS NOT NULL) AND (state = 'running') = (lease_until IS NOT NULL)",
        name="owned",
    ),
    CheckConstraint("fence >= 0 AND attempts >= 0 AND crashes >= 0 AND replay >= 0", name="counts"),
    Index("ix_claims_first_seen", "first_seen"),
    postgresql_with={"fillfactor": "75"},
)

key_watermark = Table(
    "key_watermark",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    _time("at", nullable=False),
    CheckConstraint("id = 1", name="one"),
)

leased_messages = Table(
    "leased_messages",
    metadata,
    Column("task_name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("task_id", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("properties", JSONB, nullable=False),
    Column("priority", SmallInteger),
)

task_ids = Table(
    "task_ids",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("result_id", Uuid, nullable=False, unique=True),
)

results = Table(
    "results",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("task_id", Text, nullable=False),
    Column("name", Text),
    Column("state", Text, nullable=False),
    Column("celery_state", Text),
    Column("queue", Text),
    Column("priority", SmallInteger),
    Column("args", JSONB),
    Column("kwargs", JSONB),
    Column("result", LargeBinary),
    Column("exception_type", Text),
    Column("exception_message", Text),
    Column("traceback", Text),
    Column("reason", Text),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("replay", Integer, nullable=False, server_default="0"),
    Column("worker", Text),
    Column("root_id", Text),
    Column("parent_id", Text),
    Column("correlation_id", Text),
    Column("idempotency_key", Text),
    Column("duplicate_of", Text),
    _time("enqueued_at"),
    _time("started_at"),
    _time("finished_at"),
    CheckConstraint(_one_of("state", TaskState), name="state"),
    CheckConstraint("(state = 'duplicate') = (duplicate_of IS NOT NULL)", name="duplicate_of"),
    CheckConstraint("started_at IS NULL OR finished_at IS NULL OR started_at <= finished_at", name="times"),
    CheckConstraint(
        f"finished_at IS NOT NULL OR {_one_of('state', sorted(WAITING))}",
        name="ended",
    ),
    Index("ix_results_finished_at", "finished_at"),
    Index("ix_results_state_finished_at", "state", "finished_at"),
    Index("ix_results_idempotency_key", "idempotency_key"),
    Index("ix_results_root_id", "root_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("task_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("attempt", Integer, nullable=False),
    Column("replay", Integer, nullable=False, server_default="0"),
    Column("fence", BigInteger),
    Column("state", Text, nullable=False),
    Column("next_step", Text),
    Column("exception_type", Text),
    Column("exception_message", Text),
    Column("traceback", Text),
    Column("worker", Text),
    _time("started_at"),
    _time("finished_at", nullable=False, server_default=_now),
    CheckConstraint(_one_of("state", ATTEMPT_STATES), name="state"),
    Index("ix_attempts_task_id", "task_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("task_id", Text, nullable=False),
    Column("task_name", Text, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("routing_key", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("properties", JSONB, nullable=False),
    Column("priority", SmallInteger),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    _time("created_at", nullable=False, server_default=_now),
    _time("due_at", nullable=False, server_default=_now),
    _time("expires_at"),
    Index("ix_outbox_due_at", "due_at", "id"),
    Index("ix_outbox_task_id", "task_id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("task_id", Text, nullable=False),
    Column("replay", Integer, nullable=False),
    Column("task_name", Text),
    Column("idempotency_key", Text),
    Column("state", Text, nullable=False, server_default="open"),
    Column("reason", Text, nullable=False),
    Column("queue", Text),
    Column("exchange", Text),
    Column("routing_key", Text),
    Column("body", LargeBinary, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("properties", JSONB, nullable=False),
    Column("exception_type", Text),
    Column("exception_message", Text),
    Column("traceback", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("note", Text),
    _time("first_seen", nullable=False, server_default=_now),
    _time("changed_at", nullable=False, server_default=_now),
    _time("collected_at"),
    CheckConstraint(_one_of("state", DeadLetterState), name="state"),
    Index("uq_dead_letters_task_id_replay", "task_id", "replay", unique=True),
    Index("ix_dead_letters_open", "id", postgresql_where=text("state = 'open'")),
)

group_results = Table(
    "group_results",
    metadata,
    Column("taskset_id", Text, primary_key=True),
    Column("result", JSONB, nullable=False),
    _time("date_done", nullable=False, server_default=_now),
)

operator_actions = Table(
    "operator_actions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text),
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _time("at", nullable=False, server_default=_now),
)

legal_holds = Table(
    "legal_holds",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("task_id", Text),
    Column("task_name", Text),
    Column("reason", Text, nullable=False),
    Column("placed_by", Text, nullable=False),
    _time("placed_at", nullable=False, server_default=_now),
    _time("released_at"),
    CheckConstraint("task_id IS NOT NULL OR task_name IS NOT NULL", name="subject"),
)

deletion_receipts = Table(
    "deletion_receipts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("result_id", Uuid, nullable=False),
    Column("task_id", Text, nullable=False),
    Column("name", Text),
    Column("state", Text, nullable=False),
    _time("result_finished_at"),
    Column("content_sha256", Text, nullable=False),
    Column("deleted_by", Text, nullable=False, server_default=text("session_user")),
    _time("deleted_at", nullable=False, server_default=_now),
)

suppressed = Table(
    "suppressed_deliveries",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("task_id", Text, nullable=False),
    Column("task_name", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("kind", Text, nullable=False),
    _time("at", nullable=False, server_default=_now),
    CheckConstraint(
        "kind IN ('duplicate', 'redelivered', 'conflict', 'busy', 'takeover', 'fenced', 'unrecordable')",
        name="kind",
    ),
    Index("ix_suppressed_deliveries_unrecordable", "task_id", postgresql_where=text("kind = 'unrecordable'")),
)
