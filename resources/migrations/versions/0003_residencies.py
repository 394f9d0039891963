"""What each residency of a model made and took: what predictions are made from."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE forge.residencies (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            run_id text NOT NULL,
            model text NOT NULL,
            definition text NOT NULL,
            engine text NOT NULL,
            device text NOT NULL,
            start_seconds double precision NOT NULL CHECK (start_seconds >= 0),
            busy_seconds double precision NOT NULL CHECK (busy_seconds >= 0),
            interactions integer NOT NULL CHECK (interactions >= 0),
            prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
            output_tokens bigint NOT NULL CHECK (output_tokens >= 0),
            steps jsonb NOT NULL DEFAULT '{}',
            memory_predicted bigint,
            memory_seen bigint,
            predicted_seconds double precision,
            reason text NOT NULL,
            at timestamptz NOT NULL DEFAULT clock_timestamp()
        )"""
    )
    op.execute(
        "CREATE INDEX residencies_model ON forge.residencies (definition, device, engine, id)"
    )
    op.execute("CREATE INDEX residencies_run ON forge.residencies (run_id)")


def downgrade() -> None:
    op.execute("DROP TABLE forge.residencies")
