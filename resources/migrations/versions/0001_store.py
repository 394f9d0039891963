"""The store: subjects, interactions and their events, stages, runs, samples, launches."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SUBJECTS = """
CREATE TABLE forge.subjects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset text NOT NULL,
    key text NOT NULL,
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    fields jsonb NOT NULL CHECK (jsonb_typeof(fields) = 'object'),
    content_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    absent_since timestamptz,
    CONSTRAINT subjects_key UNIQUE (dataset, key),
    CONSTRAINT subjects_ordinal UNIQUE (dataset, ordinal)
);
ALTER TABLE forge.subjects ALTER fields SET STATISTICS 0;
CREATE TABLE forge.subject_versions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject_id bigint NOT NULL REFERENCES forge.subjects ON DELETE CASCADE,
    content_hash text NOT NULL,
    fields jsonb NOT NULL,
    replaced_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX subject_versions_subject ON forge.subject_versions (subject_id, id);
CREATE TABLE forge.subject_fields (
    dataset text NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (dataset, name)
);
CREATE TABLE forge.stages (
    dataset text NOT NULL,
    partition text NOT NULL,
    ordinal_from integer NOT NULL CHECK (ordinal_from >= 0),
    ordinal_to integer NOT NULL,
    position integer NOT NULL,
    PRIMARY KEY (dataset, partition),
    CHECK (ordinal_to > ordinal_from)
);
"""

INTERACTIONS = """
CREATE SEQUENCE forge.claim_tokens AS bigint;
CREATE TABLE forge.interactions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject_id bigint NOT NULL REFERENCES forge.subjects,
    dataset text NOT NULL,
    workflow text NOT NULL,
    step text NOT NULL,
    model text NOT NULL,
    version text NOT NULL,
    content_hash text NOT NULL,
    ordinal integer NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    ready boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    claims integer NOT NULL DEFAULT 0 CHECK (claims >= 0),
    run_id text,
    token bigint,
    lease_until timestamptz,
    finished_token bigint,
    retry_at timestamptz,
    prompt text,
    system text,
    output text,
    parsed jsonb,
    error_class text,
    error_message text,
    skip_kind text,
    skip_reason text,
    prompt_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    seconds double precision,
    provenance jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_at timestamptz,
    finished_at timestamptz,
    superseded_at timestamptz,
    CONSTRAINT interactions_status CHECK
        (status IN ('pending', 'running', 'completed', 'rejected', 'failed', 'skipped')),
    CONSTRAINT interactions_running_is_leased CHECK (CASE WHEN status = 'running'
        THEN token IS NOT NULL AND run_id IS NOT NULL AND lease_until IS NOT NULL
        ELSE token IS NULL AND lease_until IS NULL END),
    CONSTRAINT interactions_running_was_ready CHECK (status <> 'running' OR ready),
    CONSTRAINT interactions_superseded_is_idle CHECK (superseded_at IS NULL OR status <> 'running'),
    CONSTRAINT interactions_completed_has_output CHECK
        (status <> 'completed' OR output IS NOT NULL),
    CONSTRAINT interactions_unsuccessful_has_class CHECK
        (status NOT IN ('rejected', 'failed') OR error_class IS NOT NULL),
    CONSTRAINT interactions_skipped_has_reason CHECK
        ((status = 'skipped') = (skip_kind IS NOT NULL)
         AND (status = 'skipped') = (skip_reason IS NOT NULL)),
    CONSTRAINT interactions_skip_kind CHECK (skip_kind IN ('branch', 'ancestor')),
    CONSTRAINT interactions_final_is_finished CHECK
        ((status IN ('pending', 'running')) = (finished_at IS NULL)),
    CONSTRAINT interactions_retry_is_pending CHECK (retry_at IS NULL OR status = 'pending')
);
CREATE UNIQUE INDEX interactions_live ON forge.interactions (subject_id, workflow, step)
    WHERE superseded_at IS NULL;
CREATE INDEX interactions_scope ON forge.interactions (dataset, workflow, ordinal)
    WHERE superseded_at IS NULL;
CREATE INDEX interactions_ready ON forge.interactions (dataset, workflow, model, ordinal, id)
    WHERE superseded_at IS NULL AND ready AND status = 'pending';
CREATE INDEX interactions_leases ON forge.interactions (run_id) WHERE status = 'running';
CREATE INDEX interactions_history ON forge.interactions (subject_id)
    WHERE superseded_at IS NOT NULL;
-- No query looks these up by value, and ANALYZE would read megabytes of them.
ALTER TABLE forge.interactions
    ALTER prompt SET STATISTICS 0, ALTER system SET STATISTICS 0, ALTER output SET STATISTICS 0,
    ALTER parsed SET STATISTICS 0, ALTER error_message SET STATISTICS 0,
    ALTER skip_reason SET STATISTICS 0, ALTER provenance SET STATISTICS 0;
CREATE TABLE forge.interaction_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    interaction_id bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    run_id text,
    token bigint,
    attempt integer,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX interaction_events_interaction ON forge.interaction_events (interaction_id, id);
"""

RUNS = """
CREATE TABLE forge.runs (
    run_id text NOT NULL,
    workflow text NOT NULL,
    partition text NOT NULL,
    dataset text NOT NULL,
    ordinal_from integer NOT NULL,
    ordinal_to integer NOT NULL,
    pid integer NOT NULL,
    host text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_claim timestamptz,
    last_commit timestamptz,
    ended_at timestamptz,
    state text NOT NULL DEFAULT 'running',
    reason text,
    PRIMARY KEY (run_id, workflow, partition),
    CONSTRAINT runs_state CHECK
        (state IN ('running', 'finished', 'cut_short', 'failed', 'dead')),
    CONSTRAINT runs_ended CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE INDEX runs_stage ON forge.runs (dataset, workflow, partition);
CREATE TABLE forge.model_loads (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL,
    model text NOT NULL,
    tier text NOT NULL,
    seconds double precision NOT NULL,
    bytes bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX model_loads_run ON forge.model_loads (run_id);
CREATE TABLE forge.resource_samples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    memory_total bigint NOT NULL,
    memory_available bigint NOT NULL,
    connections_total integer NOT NULL,
    connections_active integer NOT NULL,
    connections_idle integer NOT NULL,
    connections_max integer NOT NULL,
    gpus jsonb NOT NULL DEFAULT '[]'
);
CREATE INDEX resource_samples_run ON forge.resource_samples (run_id, at);
"""

LAUNCHES = """
CREATE TABLE forge.launches (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL,
    path text NOT NULL CONSTRAINT launches_path CHECK (path IN ('direct', 'queue')),
    project text NOT NULL,
    region text NOT NULL,
    queue text,
    labels jsonb NOT NULL DEFAULT '{}',
    job_name text,
    execution text,
    wandb_run text,
    reason text,
    spec jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT launches_queue CHECK (path <> 'queue' OR queue IS NOT NULL)
);
CREATE INDEX launches_created ON forge.launches (created_at);
CREATE TABLE forge.launch_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    launch_id uuid NOT NULL REFERENCES forge.launches,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX launch_events_launch ON forge.launch_events (launch_id, id);
"""

# Old events may be deleted (retention); what they say may not change.
APPEND_ONLY = """
CREATE FUNCTION forge.refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE ON forge.interaction_events
    FOR EACH STATEMENT EXECUTE FUNCTION forge.refuse_update();
CREATE TRIGGER append_only BEFORE UPDATE ON forge.launch_events
    FOR EACH STATEMENT EXECUTE FUNCTION forge.refuse_update();
"""

# Live rows; per_minute divides by the union of the spans of the stage's runs that own one.
SUMMARY = """
CREATE VIEW forge.interaction_summary AS
WITH spans AS (
    SELECT st.dataset, st.partition, r.workflow,
           range_agg(tstzrange(r.first_claim, r.last_commit, '[]')) AS worked
    FROM forge.stages st
    JOIN forge.runs r ON r.dataset = st.dataset AND r.partition = st.partition
    WHERE r.last_commit >= r.first_claim AND EXISTS (
        SELECT FROM forge.interactions i
        WHERE i.dataset = st.dataset AND i.workflow = r.workflow AND i.superseded_at IS NULL
          AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
          AND i.run_id = r.run_id AND i.status IN ('completed', 'rejected', 'failed'))
    GROUP BY st.dataset, st.partition, r.workflow
), working AS (
    SELECT dataset, partition, workflow,
           (SELECT sum(extract(epoch FROM upper(span) - lower(span)))
            FROM unnest(worked) AS span)::double precision AS seconds
    FROM spans
), tally AS (
    SELECT st.dataset, st.partition, st.position, i.workflow, i.step, i.model,
           count(*) FILTER (WHERE i.status = 'pending') AS pending,
           count(*) FILTER (WHERE i.status = 'running') AS running,
           count(*) FILTER (WHERE i.status = 'completed') AS completed,
           count(*) FILTER (WHERE i.status = 'rejected') AS rejected,
           count(*) FILTER (WHERE i.status = 'failed') AS failed,
           count(*) FILTER (WHERE i.status = 'skipped') AS skipped
    FROM forge.stages st
    JOIN forge.interactions i ON i.dataset = st.dataset AND i.superseded_at IS NULL
        AND i.ordinal >= st.ordinal_from AND i.ordinal < st.ordinal_to
    GROUP BY st.dataset, st.partition, st.position, i.workflow, i.step, i.model
)
SELECT t.dataset, t.workflow, t.partition, t.step, t.model,
       t.pending, t.running, t.completed, t.rejected, t.failed, t.skipped,
       t.rejected::double precision / nullif(t.completed + t.rejected + t.failed, 0)
           AS rejection_rate,
       t.failed::double precision / nullif(t.completed + t.rejected + t.failed, 0) AS error_rate,
       60 * (t.completed + t.rejected + t.failed) / nullif(w.seconds, 0) AS per_minute
FROM tally t
LEFT JOIN working w USING (dataset, partition, workflow)
ORDER BY t.dataset, t.workflow, t.position, t.step, t.model;
"""


def upgrade() -> None:
    for statements in (SUBJECTS, INTERACTIONS, RUNS, LAUNCHES, APPEND_ONLY, SUMMARY):
        op.execute(statements)
