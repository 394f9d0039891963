"""The tables of the schema ``forge`` as SQLAlchemy knows them.

The migrations create them; a test compares the two. Constraints that SQLAlchemy cannot compare
(checks, triggers) and the view live in the migrations alone.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "forge"
metadata = sa.MetaData(schema=SCHEMA)

_Time = sa.DateTime(timezone=True)


def _clock() -> sa.TextClause:
    return sa.text("clock_timestamp()")


def _identity() -> "sa.Column[int]":
    return sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True)


subjects = sa.Table(
    "subjects",
    metadata,
    _identity(),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("fields", JSONB, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False, server_default=_clock()),
    sa.Column("updated_at", _Time, nullable=False, server_default=_clock()),
    sa.Column("absent_since", _Time),
    sa.UniqueConstraint("dataset", "key", name="subjects_key"),
    sa.UniqueConstraint("dataset", "ordinal", name="subjects_ordinal"),
)

subject_versions = sa.Table(
    "subject_versions",
    metadata,
    _identity(),
    sa.Column("subject_id", sa.ForeignKey(subjects.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("fields", JSONB, nullable=False),
    sa.Column("replaced_at", _Time, nullable=False, server_default=_clock()),
    sa.Index("subject_versions_subject", "subject_id", "id"),
)

subject_fields = sa.Table(
    "subject_fields",
    metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
)

stages = sa.Table(
    "stages",
    metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
    sa.Column("ordinal_from", sa.Integer, nullable=False),
    sa.Column("ordinal_to", sa.Integer, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Index("stages_range", "dataset", "ordinal_from"),
)

claim_tokens = sa.Sequence("claim_tokens", metadata=metadata, data_type=sa.BigInteger)

interactions = sa.Table(
    "interactions",
    metadata,
    _identity(),
    sa.Column("subject_id", sa.ForeignKey(subjects.c.id), nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False, server_default="pending"),
    sa.Column("ready", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claims", sa.Integer, nullable=False, server_default="0"),
    sa.Column("renewals", sa.Integer, nullable=False, server_default="0"),
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("run_id", sa.Text),
    sa.Column("token", sa.BigInteger),
    sa.Column("lease_until", _Time),
    sa.Column("finished_token", sa.BigInteger),
    sa.Column("retry_at", _Time),
    sa.Column("prompt", sa.Text),
    sa.Column("system", sa.Text),
    sa.Column("output", sa.Text),
    sa.Column("parsed", JSONB),
    sa.Column("error_class", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("skip_kind", sa.Text),
    sa.Column("skip_reason", sa.Text),
    sa.Column("prompt_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("output_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("seconds", sa.Double),
    sa.Column("provenance", JSONB, nullable=False, server_default="{}"),
    sa.Column("created_at", _Time, nullable=False, server_default=_clock()),
    sa.Column("claimed_at", _Time),
    sa.Column("finished_at", _Time),
    sa.Column("superseded_at", _Time),
    sa.Column("old_text", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(
        "interactions_live",
        "subject_id",
        "workflow",
        "step",
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
    ),
    sa.Index(
        "interactions_scope",
        "dataset",
        "workflow",
        "ordinal",
        postgresql_where=sa.text("superseded_at IS NULL"),
    ),
    sa.Index(
        "interactions_ready",
        "dataset",
        "workflow",
        "model",
        "ordinal",
        "id",
        postgresql_where=sa.text("superseded_at IS NULL AND ready AND status = 'pending'"),
    ),
    sa.Index("interactions_leases", "run_id", postgresql_where=sa.text("status = 'running'")),
    sa.Index(
        "interactions_history",
        "subject_id",
        postgresql_where=sa.text("superseded_at IS NOT NULL"),
    ),
)

interaction_tallies = sa.Table(
    "interaction_tallies",
    metadata,
    _identity(),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("old_text", sa.Boolean, nullable=False),
    sa.Column("run_id", sa.Text),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("folded", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("interaction_tallies_stage", "dataset", "workflow", "stage"),
    sa.Index("interaction_tallies_run", "run_id", postgresql_where=sa.text("run_id IS NOT NULL")),
    sa.Index(
        "interaction_tallies_deltas",
        "dataset",
        "workflow",
        "stage",
        postgresql_where=sa.text("NOT folded"),
    ),
)
# The triggers of the interactions write it.
interactions.add_is_dependent_on(interaction_tallies)

interaction_events = sa.Table(
    "interaction_events",
    metadata,
    _identity(),
    # No foreign key: the history of a deleted row stays readable, and inserts stay cheap.
    sa.Column("interaction_id", sa.BigInteger, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=_clock()),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text),
    sa.Column("token", sa.BigInteger),
    sa.Column("attempt", sa.Integer),
    sa.Column("detail", JSONB, nullable=False, server_default="{}"),
    sa.Index("interaction_events_interaction", "interaction_id", "id"),
    sa.Index(
        "interaction_events_passing",
        "at",
        postgresql_where=sa.text("kind NOT IN ('completed', 'rejected', 'failed', 'skipped')"),
    ),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("workflow", sa.Text, primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("ordinal_from", sa.Integer, nullable=False),
    sa.Column("ordinal_to", sa.Integer, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("registered_at", _Time, nullable=False, server_default=_clock()),
    sa.Column("first_claim", _Time),
    sa.Column("last_commit", _Time),
    sa.Column("ended_at", _Time),
    sa.Column("state", sa.Text, nullable=False, server_default="running"),
    sa.Column("reason", sa.Text),
    sa.Index("runs_stage", "dataset", "workflow", "partition"),
)

model_loads = sa.Table(
    "model_loads",
    metadata,
    _identity(),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=_clock()),
    sa.Index("model_loads_run", "run_id"),
)

residencies = sa.Table(
    "residencies",
    metadata,
    _identity(),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("start_seconds", sa.Double, nullable=False),
    sa.Column("busy_seconds", sa.Double, nullable=False),
    sa.Column("interactions", sa.Integer, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("steps", JSONB, nullable=False, server_default="{}"),
    sa.Column("memory_predicted", sa.BigInteger),
    sa.Column("memory_seen", sa.BigInteger),
    sa.Column("predicted_seconds", sa.Double),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=_clock()),
    sa.Index("residencies_model", "definition", "device", "engine", "id"),
    sa.Index("residencies_run", "run_id"),
)

resource_samples = sa.Table(
    "resource_samples",
    metadata,
    _identity(),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=_clock()),
    sa.Column("memory_total", sa.BigInteger, nullable=False),
    sa.Column("memory_available", sa.BigInteger, nullable=False),
    sa.Column("connections_total", sa.Integer, nullable=False),
    sa.Column("connections_active", sa.Integer, nullable=False),
    sa.Column("connections_idle", sa.Integer, nullable=False),
    sa.Column("connections_max", sa.Integer, nullable=False),
    sa.Column("gpus", JSONB, nullable=False, server_default="[]"),
    sa.Index("resource_samples_run", "run_id", "at"),
    sa.Index("resource_samples_at", "at"),
)

launches = sa.Table(
    "launches",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("created_at", _Time, nullable=False, server_default=_clock()),
    sa.Column("updated_at", _Time, nullable=False, server_default=_clock()),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("queue", sa.Text),
    sa.Column("labels", JSONB, nullable=False, server_default="{}"),
    sa.Column("job_name", sa.Text),
    sa.Column("execution", sa.Text),
    sa.Column("wandb_run", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("spec", JSONB, nullable=False, server_default="{}"),
    sa.Column("job", sa.Text, nullable=False, server_default=""),
    sa.Column("holder", sa.Text, nullable=False, server_default=""),
    sa.Column("queue_item", sa.Text),
    sa.Column("reported", sa.Text, nullable=False, server_default=""),
    sa.Index("launches_created", "created_at"),
)

launch_events = sa.Table(
    "launch_events",
    metadata,
    _identity(),
    sa.Column("launch_id", sa.ForeignKey(launches.c.id), nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=_clock()),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", JSONB, nullable=False, server_default="{}"),
    sa.Index("launch_events_launch", "launch_id", "id"),
)

request_budgets = sa.Table(
    "request_budgets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("at", _Time, nullable=False),
)

diagnoses = sa.Table(
    "diagnoses",
    metadata,
    sa.Column("resource", sa.Text, primary_key=True),
    sa.Column("at", _Time, nullable=False, server_default=_clock()),
    sa.Column("content", JSONB, nullable=False),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("made_at", _Time, nullable=False, server_default=_clock()),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_at", _Time, server_default=_clock()),
    sa.Column("sent_at", _Time),
    sa.Column("said", sa.Text),
    sa.Index("alerts_next", "next_at"),
)
"""``next_at``: of the next try, null when there is none."""
