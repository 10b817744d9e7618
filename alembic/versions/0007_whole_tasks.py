"""The database refuses a commit in the middle of a task: its effect would stay, and the task be run again.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

REFUSE = """
CREATE FUNCTION reliable_tasks.refuse_half_a_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM reliable_tasks.claims c WHERE c.task_name = NEW.task_name AND c.key = NEW.key
                  AND c.fence = NEW.fence AND c.state = 'running' AND c.may_have_acted = 0) THEN
        RAISE EXCEPTION 'the task % would commit half of what it does for the key %', NEW.task_name, NEW.key
              USING ERRCODE = 'integrity_constraint_violation',
                    HINT = 'leave the commit to the worker; commit() of ctx.session itself is harmless';
    END IF;
    RETURN NULL;
END $$
"""

# an execution that calls nothing outside claims, acts and ends in one transaction: nobody ever sees it running
WHOLE = """
CREATE CONSTRAINT TRIGGER whole AFTER INSERT OR UPDATE ON reliable_tasks.claims DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.state = 'running' AND NEW.may_have_acted = 0)
    EXECUTE FUNCTION reliable_tasks.refuse_half_a_task()
"""


def upgrade() -> None:
    for statement in (REFUSE, WHOLE):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER whole ON reliable_tasks.claims")
    op.execute("DROP FUNCTION reliable_tasks.refuse_half_a_task()")
