"""The six tables by name, in the order in which they are shown."""

from resources.errors import ConfigurationError

RUNNER_EXECUTIONS = "runner_executions"
ACTIVE_BUILDS, RECENT_BUILDS = "active_builds", "recent_builds"
VERTEX_JOBS = "vertex_jobs"
ACTIVE_RUNS, COMPLETED_RUNS = "active_runs", "completed_runs"

DESCRIPTIONS = {
    RUNNER_EXECUTIONS: "Executions of the runner, the Cloud Run job with the W&B Launch agent.",
    ACTIVE_BUILDS: "Builds of Cloud Build that are under way, of all regions and of none.",
    RECENT_BUILDS: "The newest builds of Cloud Build, of all regions and of none.",
    VERTEX_JOBS: "Vertex AI's newest custom jobs of the last 7 days.",
    ACTIVE_RUNS: "W&B's runs that are under way, and what waits in the launch queue.",
    COMPLETED_RUNS: "W&B's newest runs that are over.",
}
TABLES = tuple(DESCRIPTIONS)


def chosen(names: list[str]) -> list[str]:
    """In the usual order, all when none is named. ConfigurationError for a name that is none."""
    for name in names:
        if name not in TABLES:
            known = ", ".join(TABLES)
            raise ConfigurationError(f"--table {name}: no such table; known: {known}")
    return [name for name in TABLES if name in names or not names]
