"""What every test of chaos asks at its end: each interaction ended once, nothing lost, nothing twice."""

from typing import Any

from tests.chaos.stub_server import StubServer
from tests.pipeline.project import Project, step

STAGES = {"canary-10": 10, "ramp-50": 50, "full-500": 500}
"""The sizes of the shipped forge.yaml."""
STEPS = ("draft", "polish")
RUN = "forge_assets.cli.main"

_LIVE = """
SELECT i.status, i.finished_token, i.error_class, i.output, (
    SELECT count(*) FROM forge.interaction_events e WHERE e.interaction_id = i.id
      AND e.kind IN ('completed', 'rejected', 'failed', 'skipped')) AS ends
FROM forge.interactions i WHERE i.superseded_at IS NULL"""


def served(server: StubServer, **settings: Any) -> dict[str, Any]:
    """A model of forge.yaml at the server."""
    return {"engine": "openai_http", "source": "echo", "url": server.url, **settings}


def two_steps() -> list[dict[str, Any]]:
    """Every prompt names its subject and step, so that the server can tell what it made twice."""
    return [
        step("draft", "draft of {key}: {text}", retries=2),
        step("polish", "polish {key}: {draft.output}", needs=["draft"], retries=2),
    ]


def run_stage(stage: str) -> tuple[str, ...]:
    return ("run", "--stage", stage)


def ended(project: Project) -> int:
    """Live interactions that have a result."""
    return int(
        project.scalar(
            "SELECT count(*) FROM forge.interactions WHERE superseded_at IS NULL"
            " AND status IN ('completed', 'rejected', 'failed', 'skipped')"
        )
    )


def running(project: Project) -> int:
    return int(project.scalar("SELECT count(*) FROM forge.interactions WHERE status = 'running'"))


def check_each_ended_once(project: Project, subjects: int) -> dict[str, int]:
    """Status -> live rows. Each subject has its two steps, each with one end of its own."""
    rows = project.query(_LIVE)
    assert len(rows) == subjects * len(STEPS)
    assert {row["ends"] for row in rows} == {1}
    tokens = [row["finished_token"] for row in rows if row["status"] != "skipped"]
    assert None not in tokens
    assert len(set(tokens)) == len(tokens)
    assert project.scalar("SELECT count(*) FROM forge.interactions") == len(rows), (
        "none was retired"
    )
    assert all(row["output"] for row in rows if row["status"] == "completed")
    assert all(row["error_class"] for row in rows if row["status"] in ("failed", "rejected"))
    return project.counts()
