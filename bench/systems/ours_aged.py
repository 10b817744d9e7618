"""Tables as they are after months: filled by the server itself, in a moment."""


def statements(rows: int) -> str:
    """SQL that adds so many ended tasks, the oldest a year ago; none of their keys will come again."""
    return f"""
INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state, attempts, first_seen)
SELECT 'bench.old', 'old:' || n, sha256(n::text::bytea), 'old-' || n, 'succeeded', 1,
    now() - interval '1 day' - n * interval '1 year' / {rows} FROM generate_series(1, {rows}) n;
INSERT INTO reliable_tasks.results (id, task_id, name, state, celery_state, queue, args, kwargs, result, attempt,
    worker, root_id, correlation_id, idempotency_key, enqueued_at, started_at, finished_at)
SELECT id, id::text, 'bench.old', 'succeeded', 'SUCCESS', 'bench', '[1, 2, 3]', '{{}}', '{{"ok": true}}', 1,
    'bench@old', id::text, id::text, 'old:' || n, at, at, at
FROM (SELECT n, gen_random_uuid() AS id, now() - interval '1 day' - n * interval '1 year' / {rows} AS at
    FROM generate_series(1, {rows}) n) old;
INSERT INTO reliable_tasks.attempts (task_id, name, idempotency_key, attempt, state, worker, started_at, finished_at)
SELECT task_id, name, idempotency_key, 1, 'succeeded', worker, started_at, finished_at FROM reliable_tasks.results;
ANALYZE reliable_tasks.claims, reliable_tasks.results, reliable_tasks.attempts;
CHECKPOINT;
"""
