"""First executions that simply succeed are claimed, and recorded, by one call each.

In functions, since their plans are kept: planning these statements anew costs more than carrying them out.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CLAIM = """
CREATE FUNCTION reliable_tasks.claim_first(
    p_id uuid, p_task_id text, p_name text, p_key text, p_fingerprint bytea, p_owner uuid
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM reliable_tasks.results r
                WHERE r.id = p_id AND (r.state <> 'enqueued' OR r.replay > 0)) THEN
        RETURN false;
    END IF;
    INSERT INTO reliable_tasks.claims (
        task_name, key, fingerprint, task_id, state, attempts, fence, owner, lease_until)
    VALUES (p_name, p_key, p_fingerprint, p_task_id, 'running', 1, 1, p_owner, clock_timestamp() + interval '1 minute')
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$
"""

RECORD = """
CREATE FUNCTION reliable_tasks.record_first(
    p_id uuid, p_task_id text, p_name text, p_key text, p_owner uuid, p_queue text, p_priority integer, p_args jsonb,
    p_kwargs jsonb, p_result bytea, p_worker text, p_root_id text, p_parent_id text, p_correlation_id text,
    p_enqueued_at timestamptz, p_started_at timestamptz, p_finished_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reliable_tasks.claims c SET state = 'succeeded', owner = NULL, lease_until = NULL
     WHERE c.task_name = p_name AND c.key = p_key AND c.owner = p_owner AND c.fence = 1 AND c.state = 'running';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'task % has ended the transaction of its claim', p_task_id
              USING ERRCODE = 'invalid_transaction_state';
    END IF;
    INSERT INTO reliable_tasks.results AS r (
        id, task_id, name, state, queue, priority, args, kwargs, result, attempt, worker, root_id, parent_id,
        correlation_id, idempotency_key, enqueued_at, started_at, finished_at)
    VALUES (p_id, p_task_id, p_name, 'succeeded', p_queue, p_priority, p_args, p_kwargs, p_result, 1, p_worker,
        p_root_id, p_parent_id, p_correlation_id, p_key, p_enqueued_at, p_started_at, p_finished_at)
    ON CONFLICT (id) DO UPDATE SET
        state = excluded.state, result = excluded.result, attempt = excluded.attempt, worker = excluded.worker,
        celery_state = NULL, started_at = excluded.started_at, finished_at = excluded.finished_at,
        queue = coalesce(excluded.queue, r.queue), priority = coalesce(excluded.priority, r.priority),
        args = coalesce(excluded.args, r.args), kwargs = coalesce(excluded.kwargs, r.kwargs),
        root_id = coalesce(excluded.root_id, r.root_id), parent_id = coalesce(excluded.parent_id, r.parent_id),
        correlation_id = coalesce(excluded.correlation_id, r.correlation_id),
        idempotency_key = excluded.idempotency_key,
        enqueued_at = coalesce(excluded.enqueued_at, r.enqueued_at)
    WHERE r.state = 'enqueued';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'task % was cancelled while it began', p_task_id
              USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO reliable_tasks.attempts (
        task_id, name, idempotency_key, attempt, fence, state, next_step, worker, started_at, finished_at)
    VALUES (p_task_id, p_name, p_key, 1, 1, 'succeeded', 'succeeded', p_worker, p_started_at, p_finished_at);
END $$
"""


def upgrade() -> None:
    for statement in (CLAIM, RECORD):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP FUNCTION reliable_tasks.record_first")
    op.execute("DROP FUNCTION reliable_tasks.claim_first")
