"""First executions are claimed in the state that they end in, and those of a batch by one call: no row is written twice.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

REFUSE = """
CREATE FUNCTION reliable_tasks.refuse_unrecorded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- by its id alone: a plan that was made for an empty table would look through all that have succeeded
    IF (SELECT r.state FROM reliable_tasks.results r WHERE r.id = NEW.task_id::uuid) IS DISTINCT FROM 'succeeded'
       AND EXISTS (SELECT FROM reliable_tasks.claims c WHERE c.task_name = NEW.task_name AND c.key = NEW.key
                      AND c.task_id = NEW.task_id) THEN
        RAISE EXCEPTION 'the task % would commit half of what it does for the key %', NEW.task_name, NEW.key
              USING ERRCODE = 'integrity_constraint_violation',
                    HINT = 'leave the commit to the worker; commit() of ctx.session itself is harmless';
    END IF;
    RETURN NULL;
END $$
"""

# a claim of the functions below says that its task has succeeded before it has begun: it may not be committed so.
# All others that are inserted in this state come with their result, in one statement
WHOLE = """
CREATE CONSTRAINT TRIGGER recorded AFTER INSERT ON reliable_tasks.claims DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state = 'succeeded' AND current_setting('reliable_tasks.claims', true) = 'whole')
    EXECUTE FUNCTION reliable_tasks.refuse_unrecorded()
"""

CLAIM_ONE = """
CREATE FUNCTION reliable_tasks.claim_whole(p_id uuid, p_name text, p_key text, p_fingerprint bytea)
RETURNS xid8 LANGUAGE plpgsql SET reliable_tasks.claims = 'whole' SET lock_timeout = '50ms' AS $$
BEGIN
    IF EXISTS (SELECT FROM reliable_tasks.results r
                WHERE r.id = p_id AND (r.state <> 'enqueued' OR r.replay > 0)) THEN
        RETURN NULL;
    END IF;
    INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state, attempts, fence)
    VALUES (p_name, p_key, p_fingerprint, p_id::text, 'succeeded', 1, 1)
    ON CONFLICT DO NOTHING;
    RETURN CASE WHEN FOUND THEN pg_current_xact_id() END;
END $$
"""

# in one order everywhere, or two that claim the same keys would wait for each other
CLAIM_MANY = """
CREATE FUNCTION reliable_tasks.claim_wholes(
    p_name text, p_ids uuid[], p_keys text[], p_fingerprints bytea[], OUT transaction xid8, OUT claimed text[]
) LANGUAGE plpgsql SET reliable_tasks.claims = 'whole' SET lock_timeout = '10ms' AS $$
BEGIN
    WITH taken AS (
        INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state, attempts, fence)
        SELECT p_name, given.key, given.fingerprint, given.id::text, 'succeeded', 1, 1
          FROM unnest(p_ids, p_keys, p_fingerprints) AS given (id, key, fingerprint)
         -- one by one: the plan of a join that was made for an empty table would read all results
         WHERE (SELECT r.state <> 'enqueued' OR r.replay > 0
                  FROM reliable_tasks.results r WHERE r.id = given.id) IS NOT TRUE
         ORDER BY given.key
        ON CONFLICT DO NOTHING
        RETURNING task_id
    )
    SELECT array_agg(task_id) INTO claimed FROM taken;
    transaction := CASE WHEN claimed IS NOT NULL THEN pg_current_xact_id() END;
END $$
"""

IS_ITS_OWN = """
    IF pg_current_xact_id_if_assigned() IS DISTINCT FROM p_transaction THEN
        RAISE EXCEPTION 'a task has ended the transaction of its claim' USING ERRCODE = 'invalid_transaction_state';
    END IF;
"""

RESULTS = """
    INSERT INTO reliable_tasks.results AS r (
        id, task_id, name, state, queue, priority, args, kwargs, result, attempt, worker, root_id, parent_id,
        correlation_id, idempotency_key, enqueued_at, started_at, finished_at)
"""

OR_UPDATE = """
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
"""

ATTEMPTS = """
    INSERT INTO reliable_tasks.attempts (
        task_id, name, idempotency_key, attempt, fence, state, next_step, worker, started_at, finished_at)
"""

RECORD_ONE = f"""
CREATE FUNCTION reliable_tasks.record_whole(
    p_transaction xid8, p_id uuid, p_name text, p_key text, p_queue text, p_priority integer, p_args jsonb,
    p_kwargs jsonb, p_result bytea, p_worker text, p_root_id text, p_parent_id text, p_correlation_id text,
    p_enqueued_at timestamptz, p_started_at timestamptz, p_finished_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    {IS_ITS_OWN}
    {RESULTS}
    VALUES (p_id, p_id::text, p_name, 'succeeded', p_queue, p_priority, p_args, p_kwargs, p_result, 1, p_worker,
        p_root_id, p_parent_id, p_correlation_id, p_key, p_enqueued_at, p_started_at, p_finished_at)
    {OR_UPDATE};
    IF NOT FOUND THEN
        RAISE EXCEPTION 'task % was cancelled while it began', p_id USING ERRCODE = 'serialization_failure';
    END IF;
    {ATTEMPTS}
    VALUES (p_id::text, p_name, p_key, 1, 1, 'succeeded', 'succeeded', p_worker, p_started_at, p_finished_at);
END $$
"""

# its caller may not delete claims, and need not: only what the same transaction has claimed goes
GIVE_UP = """
CREATE FUNCTION reliable_tasks.give_up_claims(p_name text, p_keys text[])
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM reliable_tasks.claims c
     WHERE c.task_name = p_name AND c.key = ANY (p_keys) AND c.xmin = pg_current_xact_id()::xid
$$
"""

# p_given_up: keys of claims that nothing came of
RECORD_MANY = f"""
CREATE FUNCTION reliable_tasks.record_wholes(
    p_transaction xid8, p_name text, p_given_up text[], p_count bigint, p_rows json
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    written bigint;
BEGIN
    {IS_ITS_OWN}
    IF p_given_up <> '{{}}' THEN
        PERFORM reliable_tasks.give_up_claims(p_name, p_given_up);
    END IF;
    WITH given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(p_rows) AS given(
            id uuid, key text, queue text, priority smallint, args jsonb, kwargs jsonb, result text, worker text,
            root_id text, parent_id text, correlation_id text, enqueued_at timestamptz, started_at timestamptz,
            finished_at timestamptz)
    ), tried AS (
        {ATTEMPTS}
        SELECT id::text, p_name, key, 1, 1, 'succeeded', 'succeeded', worker, started_at, finished_at FROM given
    )
    {RESULTS}
    SELECT id, id::text, p_name, 'succeeded', queue, priority, args, kwargs, decode(result, 'base64'), 1, worker,
        root_id, parent_id, correlation_id, key, enqueued_at, started_at, finished_at
      FROM given
    {OR_UPDATE};
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> p_count THEN
        RAISE EXCEPTION '% of % tasks were cancelled while they began', p_count - written, p_count
              USING ERRCODE = 'serialization_failure';
    END IF;
END $$
"""


def upgrade() -> None:
    for statement in (REFUSE, WHOLE, CLAIM_ONE, CLAIM_MANY, RECORD_ONE, GIVE_UP, RECORD_MANY):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER recorded ON reliable_tasks.claims")
    for function in (
        "record_wholes",
        "give_up_claims",
        "record_whole",
        "claim_wholes",
        "claim_whole",
        "refuse_unrecorded",
    ):
        op.execute(f"DROP FUNCTION reliable_tasks.{function}")
