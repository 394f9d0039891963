"""What a launch is of and by whom, the budgets that processes share, and what logs once said."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATES = """
    'intended', 'running', 'pending', 'queued',
    'succeeded', 'failed', 'cancelled', 'expired', 'partially_succeeded',
    'rejected', 'runner_failed', 'no_agent', 'timeout', 'unknown'"""

TABLES = f"""
ALTER TABLE forge.launches
    ADD COLUMN job text NOT NULL DEFAULT '',
    ADD COLUMN holder text NOT NULL DEFAULT '',
    ADD COLUMN queue_item text,
    ADD COLUMN reported text NOT NULL DEFAULT '',
    ADD CONSTRAINT launches_state CHECK (state IN ({STATES}));
CREATE TABLE forge.request_budgets (
    name text PRIMARY KEY,
    tokens double precision NOT NULL,
    at timestamptz NOT NULL
);
CREATE TABLE forge.diagnoses (
    resource text PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    content jsonb NOT NULL
);
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE forge.diagnoses;
        DROP TABLE forge.request_budgets;
        ALTER TABLE forge.launches
            DROP CONSTRAINT launches_state,
            DROP COLUMN reported, DROP COLUMN queue_item, DROP COLUMN holder, DROP COLUMN job;
        """
    )
