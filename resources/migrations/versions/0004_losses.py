"""How often a worker was lost while it had the interaction, since it last came back."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE forge.interactions"
        " ADD COLUMN losses integer NOT NULL DEFAULT 0 CHECK (losses >= 0)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE forge.interactions DROP COLUMN losses")
