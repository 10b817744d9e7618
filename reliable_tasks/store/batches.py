"""Many first executions that have succeeded, recorded by one statement: claims, results and attempts."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.store.ended import note_ended
from reliable_tasks.store.identity import is_own, new_id
from reliable_tasks.store.tables import task_ids

_RECORD = text(
    """
    WITH given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS given(
            id uuid, task_id text, name text, idempotency_key text, fingerprint text, queue text, priority smallint,
            args jsonb, kwargs jsonb, result text, worker text, root_id text, parent_id text, correlation_id text,
            enqueued_at timestamptz, started_at timestamptz, finished_at timestamptz)
    ), claimed AS (
        INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state, attempts, fence)
        SELECT name, idempotency_key, decode(fingerprint, 'base64'), task_id, 'succeeded', 1, 1 FROM given
        WHERE NOT EXISTS (SELECT FROM reliable_tasks.results r WHERE r.id = given.id AND r.state <> 'enqueued')
        ON CONFLICT DO NOTHING
        RETURNING task_name, key
    ), kept AS (
        SELECT given.* FROM given JOIN claimed ON task_name = name AND key = idempotency_key
    ), stored AS (
        INSERT INTO reliable_tasks.results AS r (
            id, task_id, name, state, queue, priority, args, kwargs, result, attempt, worker, root_id, parent_id,
            correlation_id, idempotency_key, enqueued_at, started_at, finished_at)
        SELECT id, task_id, name, 'succeeded', queue, priority, args, kwargs, decode(result, 'base64'), 1, worker,
            root_id, parent_id, correlation_id, idempotency_key, enqueued_at, started_at, finished_at
        FROM kept
        ON CONFLICT (id) DO UPDATE SET
            state = excluded.state, result = excluded.result, attempt = excluded.attempt, worker = excluded.worker,
            celery_state = NULL, started_at = excluded.started_at, finished_at = excluded.finished_at,
            queue = coalesce(excluded.queue, r.queue), priority = coalesce(excluded.priority, r.priority),
            args = coalesce(excluded.args, r.args), kwargs = coalesce(excluded.kwargs, r.kwargs),
            root_id = coalesce(excluded.root_id, r.root_id), parent_id = coalesce(excluded.parent_id, r.parent_id),
            correlation_id = coalesce(excluded.correlation_id, r.correlation_id),
            idempotency_key = excluded.idempotency_key,
            enqueued_at = coalesce(excluded.enqueued_at, r.enqueued_at)
        WHERE r.state = 'enqueued'
        RETURNING 1
    ), tried AS (
        INSERT INTO reliable_tasks.attempts (
            task_id, name, idempotency_key, attempt, fence, state, next_step, worker, started_at, finished_at)
        SELECT task_id, name, idempotency_key, 1, 1, 'succeeded', 'succeeded', worker, started_at, finished_at
        FROM kept
    )
    SELECT task_id, (SELECT count(*) FROM stored) = (SELECT count(*) FROM kept) AS whole FROM kept
    """
)
"""A key that is known, and a task that has more than its row of waiting, are left out, for a look of their own."""


RECORDED = (
    "queue",
    "priority",
    "args",
    "kwargs",
    "result",
    "worker",
    "root_id",
    "parent_id",
    "correlation_id",
    "enqueued_at",
    "started_at",
    "finished_at",
)
"""What is recorded of a first execution that has succeeded, besides whose it is."""

_COLUMNS = frozenset(("task_id", "name", "idempotency_key", "fingerprint", *RECORDED))
_NEW_IDS = insert(task_ids).on_conflict_do_nothing().returning(task_ids.c.task_id)


def _with_ids(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the ids of their results; a task whose id is not ours, and is known, is left out."""
    foreign = {row["task_id"]: new_id() for row in rows if not is_own(row["task_id"])}
    new: set[str] = set()
    if foreign:
        pairs = [
            {"task_id": task_id, "result_id": result_id} for task_id, result_id in sorted(foreign.items())
        ]
        new = set(connection.execute(_NEW_IDS, pairs).scalars())
    return [
        # what is not told is null; most columns of most rows are
        {name: value for name, value in row.items() if value is not None and name in _COLUMNS}
        | {"id": foreign.get(row["task_id"], row["task_id"])}
        for row in rows
        if row["task_id"] not in foreign or row["task_id"] in new
    ]


def record(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[str] | None:
    """Write the rows of first executions that have succeeded, each key and each id once at most.

    Args:
        rows: the columns of the results, and `fingerprint`.

    Returns:
        The task ids whose rows are written; None when one was cancelled under way: then all is to be rolled back.
    """
    # in one order everywhere, or two that write the same keys would wait for each other
    ordered = sorted(_with_ids(connection, rows), key=lambda row: (row["name"], row["idempotency_key"]))
    found = connection.execute(_RECORD, {"rows": msgspec.json.encode(ordered).decode()}).all()
    if not all(row.whole for row in found):
        return None
    recorded = {row.task_id for row in found}
    note_ended(connection, *recorded)
    return recorded
