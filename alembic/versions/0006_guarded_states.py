"""The database refuses a state that may not follow, an end without its time, and a fence that goes back.

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

REFUSE = """
CREATE FUNCTION reliable_tasks.refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: a row that is % cannot become %', TG_TABLE_NAME, OLD.state, NEW.state
          USING ERRCODE = 'check_violation', HINT = 'model/states.py says what may follow';
END $$
"""

# the condition is what costs something for every row; the function is only called to refuse
CLAIMS = """
CREATE TRIGGER guarded BEFORE UPDATE ON reliable_tasks.claims FOR EACH ROW WHEN (
    NEW.fence < OLD.fence
    OR NEW.replay < OLD.replay
    OR NEW.fingerprint <> OLD.fingerprint
    OR NEW.owner IS NOT NULL AND NEW.owner IS DISTINCT FROM OLD.owner AND NEW.fence = OLD.fence
    OR NEW.state <> OLD.state AND NOT (
        OLD.state = 'running' AND NEW.state IN ('retry_wait', 'succeeded', 'dead', 'uncertain', 'failed')
        OR OLD.state = 'retry_wait' AND NEW.state = 'running'
        OR OLD.state = 'dead' AND NEW.state = 'running' AND NEW.replay > OLD.replay
        OR OLD.state = 'dead' AND NEW.state = 'discarded'
        OR OLD.state = 'uncertain' AND NEW.state IN ('succeeded', 'failed', 'dead')
        OR OLD.state = 'discarded' AND NEW.state = 'dead'
    )
) EXECUTE FUNCTION reliable_tasks.refuse_transition()
"""

RESULTS = """
CREATE TRIGGER guarded BEFORE UPDATE ON reliable_tasks.results FOR EACH ROW WHEN (
    NEW.state <> OLD.state AND NOT (
        OLD.state IN ('enqueued', 'retry_wait') AND NEW.state NOT IN ('enqueued', 'discarded')
        OR OLD.state = 'running' AND NEW.state NOT IN ('enqueued', 'expired', 'discarded')
        OR OLD.state = 'dead' AND NEW.state IN ('enqueued', 'discarded')
        OR OLD.state = 'dead' AND NEW.replay > OLD.replay
        OR OLD.state = 'uncertain' AND NEW.state IN ('enqueued', 'succeeded', 'failed', 'dead')
        OR OLD.state = 'discarded' AND NEW.state = 'dead'
        OR OLD.state = 'failed' AND OLD.reason IS NOT DISTINCT FROM 'predecessor'
    )
) EXECUTE FUNCTION reliable_tasks.refuse_transition()
"""

DEAD_LETTERS = """
CREATE TRIGGER guarded BEFORE UPDATE ON reliable_tasks.dead_letters FOR EACH ROW WHEN (
    NEW.state <> OLD.state AND NOT (
        OLD.state = 'open' AND NEW.state IN ('replaying', 'discarded')
        OR OLD.state = 'replaying' AND NEW.state IN ('resolved', 'dead_again')
        OR OLD.state = 'discarded' AND NEW.state = 'open'
    )
) EXECUTE FUNCTION reliable_tasks.refuse_transition()
"""


def upgrade() -> None:
    op.execute(
        "ALTER TABLE reliable_tasks.claims DROP CONSTRAINT ck_claims_owned, ADD CONSTRAINT ck_claims_owned CHECK "
        "((state = 'running') = (owner IS NOT NULL) AND (state = 'running') = (lease_until IS NOT NULL)), "
        "ADD CONSTRAINT ck_claims_counts CHECK (fence >= 0 AND attempts >= 0 AND crashes >= 0 AND replay >= 0)"
    )
    op.execute(
        "UPDATE reliable_tasks.results SET finished_at = coalesce(started_at, enqueued_at, clock_timestamp()) "
        "WHERE finished_at IS NULL AND state NOT IN ('enqueued', 'retry_wait', 'running')"
    )
    op.execute(
        "ALTER TABLE reliable_tasks.results ADD CONSTRAINT ck_results_ended CHECK "
        "(finished_at IS NOT NULL OR state IN ('enqueued', 'retry_wait', 'running'))"
    )
    for statement in (REFUSE, CLAIMS, RESULTS, DEAD_LETTERS):
        op.execute(statement)


def downgrade() -> None:
    for table in ("claims", "results", "dead_letters"):
        op.execute(f"DROP TRIGGER guarded ON reliable_tasks.{table}")
    op.execute("DROP FUNCTION reliable_tasks.refuse_transition()")
    op.execute("ALTER TABLE reliable_tasks.results DROP CONSTRAINT ck_results_ended")
    op.execute(
        "ALTER TABLE reliable_tasks.claims DROP CONSTRAINT ck_claims_counts, DROP CONSTRAINT ck_claims_owned, "
        "ADD CONSTRAINT ck_claims_owned CHECK "
        "(state <> 'running' OR (owner IS NOT NULL AND lease_until IS NOT NULL))"
    )
