"""Views with the names and columns of Celery's own result tables, and the archive beside them.

The views stand in the schema reliable_tasks, and in public as well unless something of that name is there
already: tables that stock Celery made are never touched.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# jsonb refuses an escaped NUL, lone surrogates, NaN and Infinity, which JSON from Python may hold; one such
# result must not break everybody's query, so it is shown as the text it is
AS_JSONB = r"""
CREATE FUNCTION reliable_tasks.as_jsonb(result bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN replace(convert_from(result, 'UTF8'), '\u0000', '\ufffd')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN to_jsonb(convert_from(result, 'UTF8'));
END $$
"""

TASKMETA = """
CREATE VIEW {schema}.celery_taskmeta AS
SELECT r.id,
       r.task_id,
       coalesce(r.celery_state, CASE
           WHEN r.state IN ('succeeded', 'duplicate') THEN 'SUCCESS'
           WHEN r.state IN ('dead', 'uncertain', 'failed', 'discarded') THEN 'FAILURE'
           WHEN r.state IN ('cancelled', 'expired') THEN 'REVOKED'
           WHEN r.state = 'retry_wait' THEN 'RETRY'
           WHEN r.state = 'running' THEN 'STARTED'
           ELSE 'PENDING' END) AS status,
       reliable_tasks.as_jsonb(r.result) AS result,
       r.finished_at AS date_done,
       r.traceback,
       r.name,
       r.args,
       r.kwargs,
       r.worker,
       greatest(r.attempt - 1, 0) AS retries,
       r.queue,
       r.started_at AS date_started,
       r.enqueued_at AS date_enqueued
  FROM reliable_tasks.results r
"""

GROUPMETA = """
CREATE VIEW {schema}.celery_groupmeta AS
SELECT taskset_id, result, date_done FROM reliable_tasks.group_results
"""

DELETE_RESULT = """
CREATE FUNCTION reliable_tasks.delete_result() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM reliable_tasks.legal_holds h
                WHERE h.released_at IS NULL
                  AND (h.task_id = OLD.task_id OR h.task_name = OLD.name)) THEN
        RAISE NOTICE 'task % is under legal hold and stays', OLD.task_id;
        RETURN NULL;
    END IF;
    INSERT INTO reliable_tasks.deletion_receipts
           (result_id, task_id, name, state, result_finished_at, content_sha256)
    SELECT r.id, r.task_id, r.name, r.state, r.finished_at, encode(sha256(convert_to(r::text, 'UTF8')), 'hex')
      FROM reliable_tasks.results r WHERE r.id = OLD.id;
    DELETE FROM reliable_tasks.results WHERE id = OLD.id;
    RETURN OLD;
END $$
"""

DELETE_TRIGGER = """
CREATE TRIGGER delete_result INSTEAD OF DELETE ON {schema}.celery_taskmeta
FOR EACH ROW EXECUTE FUNCTION reliable_tasks.delete_result()
"""

ARCHIVE = """
CREATE TABLE {schema}.celery_taskmeta_archive AS
SELECT * FROM reliable_tasks.celery_taskmeta WITH NO DATA
"""


def upgrade() -> None:
    op.execute(AS_JSONB)
    op.execute(TASKMETA.format(schema="reliable_tasks"))
    op.execute(GROUPMETA.format(schema="reliable_tasks"))
    op.execute(DELETE_RESULT)
    op.execute(DELETE_TRIGGER.format(schema="reliable_tasks"))
    if _free("celery_taskmeta"):
        op.execute(TASKMETA.format(schema="public"))
        op.execute(DELETE_TRIGGER.format(schema="public"))
    if _free("celery_groupmeta"):
        op.execute(GROUPMETA.format(schema="public"))
    if _free("celery_taskmeta_archive"):
        op.execute(ARCHIVE.format(schema="public"))


def downgrade() -> None:
    for schema in ("public", "reliable_tasks"):
        for view in ("celery_taskmeta", "celery_groupmeta"):
            op.execute(
                f"DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_views WHERE schemaname = '{schema}' "
                f"AND viewname = '{view}') THEN DROP VIEW {schema}.{view}; END IF; END $$"
            )
    op.execute("DROP FUNCTION reliable_tasks.delete_result()")
    op.execute("DROP FUNCTION reliable_tasks.as_jsonb(bytea)")


def _free(name: str) -> bool:
    found = op.get_bind().exec_driver_sql(f"SELECT to_regclass('public.{name}')").scalar()
    return found is None
