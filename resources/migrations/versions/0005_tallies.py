"""Tallies of the interactions by stage: status and gate add up a few rows instead of reading all.

The triggers only ever insert, so that workers never wait for each other; ``tally_store`` folds.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Stage -1: an ordinal that lies in no stage. The run is kept only of what a model was asked for.
TABLE = """
CREATE TABLE forge.interaction_tallies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset text NOT NULL,
    workflow text NOT NULL,
    stage integer NOT NULL,
    step text NOT NULL,
    version text NOT NULL,
    status text NOT NULL,
    old_text boolean NOT NULL,
    run_id text,
    n bigint NOT NULL,
    folded boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.1);
CREATE INDEX interaction_tallies_stage ON forge.interaction_tallies (dataset, workflow, stage);
CREATE INDEX interaction_tallies_run ON forge.interaction_tallies (run_id)
    WHERE run_id IS NOT NULL;
CREATE INDEX interaction_tallies_deltas ON forge.interaction_tallies (dataset, workflow, stage)
    WHERE NOT folded;
CREATE INDEX stages_range ON forge.stages (dataset, ordinal_from);
"""

# What retention removes, oldest first: the events that say how a row ended stay for ever.
RETENTION = """
CREATE INDEX interaction_events_passing ON forge.interaction_events (at)
    WHERE kind NOT IN ('completed', 'rejected', 'failed', 'skipped');
CREATE INDEX resource_samples_at ON forge.resource_samples (at);
"""

# A live row knows by itself whether its subject's text is another one now: no count has to look.
OLD_TEXT = """
ALTER TABLE forge.interactions ADD COLUMN old_text boolean NOT NULL DEFAULT false;
UPDATE forge.interactions i SET old_text = true FROM forge.subjects s
WHERE s.id = i.subject_id AND s.content_hash <> i.content_hash AND i.superseded_at IS NULL;
CREATE FUNCTION forge.mark_old_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- In the order in which everybody locks rows.
    PERFORM FROM forge.interactions i
    JOIN came s ON s.id = i.subject_id JOIN gone b ON b.id = s.id
    WHERE s.content_hash <> b.content_hash AND i.superseded_at IS NULL
    ORDER BY i.id FOR UPDATE OF i;
    IF FOUND THEN
        UPDATE forge.interactions i SET old_text = (i.content_hash <> s.content_hash)
        FROM came s JOIN gone b ON b.id = s.id
        WHERE s.id = i.subject_id AND s.content_hash <> b.content_hash
          AND i.superseded_at IS NULL AND i.old_text <> (i.content_hash <> s.content_hash);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER old_text AFTER UPDATE ON forge.subjects
    REFERENCING OLD TABLE AS gone NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION forge.mark_old_text();
"""

_INSERT = """
INSERT INTO forge.interaction_tallies
    (dataset, workflow, stage, step, version, status, old_text, run_id, n)"""

_ROWS = """
        SELECT dataset, workflow, ordinal, step, version, status, old_text,
               CASE WHEN status IN ('completed', 'rejected', 'failed') THEN run_id END AS run_id,
               {n} AS n
        FROM {rows} WHERE superseded_at IS NULL"""

_STAGE = """
    LEFT JOIN LATERAL (
        SELECT st.ordinal_from, st.ordinal_to FROM forge.stages st
        WHERE st.dataset = x.dataset AND st.ordinal_from <= x.ordinal
        ORDER BY st.ordinal_from DESC LIMIT 1
    ) st ON x.ordinal < st.ordinal_to"""


def _tally(*rows: str) -> str:
    """What the rows of the transition tables add."""
    return f"""{_INSERT}
    SELECT x.dataset, x.workflow, coalesce(st.ordinal_from, -1) AS stage, x.step, x.version,
           x.status, x.old_text, x.run_id, sum(x.n)
    FROM ({" UNION ALL ".join(rows)}) x {_STAGE}
    GROUP BY x.dataset, x.workflow, coalesce(st.ordinal_from, -1), x.step, x.version, x.status,
             x.old_text, x.run_id
    HAVING sum(x.n) <> 0;"""


def _tally_one_stage(*rows: str) -> str:
    """The same where all rows lie in one stage: most statements, and no look-up for each row."""
    return f"""{_INSERT}
    SELECT x.dataset, x.workflow, one.ordinal_from, x.step, x.version, x.status, x.old_text,
           x.run_id, sum(x.n)
    FROM ({" UNION ALL ".join(rows)}) x
    GROUP BY x.dataset, x.workflow, x.step, x.version, x.status, x.old_text, x.run_id
    HAVING sum(x.n) <> 0;"""


def _branch(*tables: str) -> str:
    """The statement's tally, by whether one stage holds all its rows."""
    rows = [_ROWS.format(n=-1 if table == "gone" else 1, rows=table) for table in tables]
    places = " UNION ALL ".join(f"SELECT dataset, ordinal FROM {table}" for table in tables)
    return f"""
        SELECT min(dataset) AS first, max(dataset) AS last, min(ordinal) AS low, max(ordinal) AS high
        INTO place FROM ({places}) x;
        SELECT st.ordinal_from, st.ordinal_to INTO one FROM forge.stages st
        WHERE st.dataset = place.first AND st.ordinal_from <= place.low
        ORDER BY st.ordinal_from DESC LIMIT 1;
        IF place.first = place.last AND place.high < one.ordinal_to THEN
            {_tally_one_stage(*rows)}
        ELSE
            {_tally(*rows)}
        END IF;"""


TRIGGERS = f"""
CREATE FUNCTION forge.tally_interactions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place record;
    one record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        {_branch("gone", "came")}
    ELSIF TG_OP = 'INSERT' THEN
        {_branch("came")}
    ELSE
        {_branch("gone")}
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tally_insert AFTER INSERT ON forge.interactions
    REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION forge.tally_interactions();
CREATE TRIGGER tally_update AFTER UPDATE ON forge.interactions
    REFERENCING OLD TABLE AS gone NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION forge.tally_interactions();
CREATE TRIGGER tally_delete AFTER DELETE ON forge.interactions
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forge.tally_interactions();
CREATE FUNCTION forge.forget_tallies() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM forge.interaction_tallies;
    RETURN NULL;
END $$;
CREATE TRIGGER tally_truncate AFTER TRUNCATE ON forge.interactions
    FOR EACH STATEMENT EXECUTE FUNCTION forge.forget_tallies();
"""

EXISTING = _tally(_ROWS.format(n=1, rows="forge.interactions"))


def upgrade() -> None:
    for statements in (TABLE, RETENTION, OLD_TEXT, TRIGGERS, EXISTING):
        op.execute(statements)


def downgrade() -> None:
    op.execute(
        """
        DROP TRIGGER tally_insert ON forge.interactions;
        DROP TRIGGER tally_update ON forge.interactions;
        DROP TRIGGER tally_delete ON forge.interactions;
        DROP TRIGGER tally_truncate ON forge.interactions;
        DROP FUNCTION forge.tally_interactions();
        DROP FUNCTION forge.forget_tallies();
        DROP TRIGGER old_text ON forge.subjects;
        DROP FUNCTION forge.mark_old_text();
        ALTER TABLE forge.interactions DROP COLUMN old_text;
        DROP INDEX forge.interaction_events_passing;
        DROP INDEX forge.resource_samples_at;
        DROP INDEX forge.stages_range;
        DROP TABLE forge.interaction_tallies;
        """
    )
