"""How often another answer was asked for than a rejected one: each is generated another way."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE forge.interactions"
        " ADD COLUMN renewals integer NOT NULL DEFAULT 0 CHECK (renewals >= 0)"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE forge.interactions DROP COLUMN renewals")
