"""Messages to people: each kept before it is sent, so that it is sent once."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE forge.alerts (
    key text NOT NULL,
    target text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz DEFAULT clock_timestamp(),
    sent_at timestamptz,
    said text,
    CONSTRAINT alerts_pkey PRIMARY KEY (key, target),
    CONSTRAINT alerts_sent_is_over CHECK (sent_at IS NULL OR next_at IS NULL)
);
CREATE INDEX alerts_next ON forge.alerts (next_at);
"""


def upgrade() -> None:
    op.execute(TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE forge.alerts")
