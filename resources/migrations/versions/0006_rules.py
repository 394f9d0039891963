"""Rules that only the store's code kept: whose an ended row is, and that what was retired stays so."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# One look at the table for all. What a model answered was ready, claimed, and answered under a token.
CHECKS = """
ALTER TABLE forge.interactions
    ADD CONSTRAINT interactions_attempts_were_claimed CHECK (attempts <= claims),
    ADD CONSTRAINT interactions_answered_under_a_token CHECK
        (status NOT IN ('completed', 'rejected', 'failed')
         OR (ready AND finished_token IS NOT NULL AND run_id IS NOT NULL AND attempts > 0)),
    ADD CONSTRAINT interactions_skipped_was_not_ready CHECK (status <> 'skipped' OR NOT ready);
"""

# Claims and commits never set this column, so they never meet the trigger.
RETIRED = """
CREATE FUNCTION forge.refuse_return() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'interaction % was superseded and stays so', OLD.id
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER stays_superseded BEFORE UPDATE OF superseded_at ON forge.interactions
    FOR EACH ROW WHEN (OLD.superseded_at IS NOT NULL) EXECUTE FUNCTION forge.refuse_return();
"""


def upgrade() -> None:
    op.execute(CHECKS)
    op.execute(RETIRED)


def downgrade() -> None:
    op.execute(
        """
        DROP TRIGGER stays_superseded ON forge.interactions;
        DROP FUNCTION forge.refuse_return();
        ALTER TABLE forge.interactions
            DROP CONSTRAINT interactions_attempts_were_claimed,
            DROP CONSTRAINT interactions_answered_under_a_token,
            DROP CONSTRAINT interactions_skipped_was_not_ready;
        """
    )
