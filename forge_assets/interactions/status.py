"""The rows of `forge status`: what the store counts, and the verdict on it."""

from typing import Any

from forge_assets.project import Project, WorkflowPlan
from forge_assets.stage_checks import judge_stage
from resources.interaction_store import InteractionStore
from resources.stage_counts import StageCounts


def stage_rows(plan: WorkflowPlan, store: InteractionStore) -> list[dict[str, Any]]:
    """One JSON-able row per stage that holds subjects, and the first three always."""
    project = plan.project
    counts = stage_counts(plan, store)
    shown = [row for position, row in enumerate(counts) if row.subjects or position < 3]
    return [stage_row(project, row) for row in shown]


def stage_counts(plan: WorkflowPlan, store: InteractionStore) -> list[StageCounts]:
    """Every stage in order, also those without subjects."""
    project = plan.project
    dataset = project.config.dataset
    store.sync_stages(dataset, project.stage_ranges)
    return store.stage_counts(dataset, plan.workflow.name, plan.versions)


def stage_row(project: Project, counts: StageCounts) -> dict[str, Any]:
    """The shape that `forge status --json` promises."""
    verdict = judge_stage(counts, project.config.thresholds)
    return {
        "partition": counts.partition,
        "subjects": counts.subjects,
        "interactions": {
            # What a run would still have to make is as pending as what is waiting in the store.
            "pending": counts.pending + counts.missing,
            "running": counts.running,
            "completed": counts.completed,
            "rejected": counts.rejected,
            "failed": counts.failed,
            "skipped": counts.skipped,
        },
        "rejection_rate": counts.rejection_rate,
        "error_rate": counts.error_rate,
        "per_minute": counts.per_minute,
        "subjects_per_minute": counts.subjects_per_minute,
        "success_rate": counts.success_rate,
        "seconds_per_interaction": counts.seconds_per_interaction,
        "seconds_per_subject": counts.seconds_per_subject,
        "model_loads": counts.model_loads,
        "stale": counts.stale,
        "verdict": str(verdict.verdict),
        "reasons": list(verdict.reasons),
    }


def subjects_beyond(project: Project, store: InteractionStore) -> int:
    """Subjects that no partition covers."""
    last = project.stages[-1].end
    return max(0, store.subject_count(project.config.dataset) - last)
