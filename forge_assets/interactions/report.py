"""The report of one stage: counts, speed, machine, what went wrong. JSON and Markdown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from forge_assets.config import Thresholds
from forge_assets.markdown import code, fence, listing, table
from forge_assets.stage_checks import CheckOutcome, StageVerdict, check_stage, judge_stage, share
from resources.interaction import Status
from resources.interaction_store import InteractionStore
from resources.machine_judgement import Judgement, ResourcePeaks, judge, peaks
from resources.machine_limits import Limits
from resources.machine_reading import GIGABYTE
from resources.stage_counts import StageCounts
from resources.store_types import (
    Example,
    FailureClass,
    ModelCounts,
    ModelLoad,
    Residency,
    StageScope,
    StepCounts,
)
from resources.worker_ids import run_of

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class StageReport:
    """Everything the report of a stage tells, read at one time."""

    scope: StageScope
    counts: StageCounts
    verdict: StageVerdict
    checks: tuple[CheckOutcome, ...]
    steps: tuple[StepCounts, ...]
    models: tuple[ModelCounts, ...]
    runs: int
    loads: tuple[ModelLoad, ...]
    residencies: tuple[Residency, ...]
    peaks: ResourcePeaks | None
    judgements: tuple[Judgement, ...]
    rejections: tuple[Example, ...]
    failures: tuple[FailureClass, ...]


def read_stage_report(
    store: InteractionStore,
    scope: StageScope,
    counts: StageCounts,
    thresholds: Thresholds,
    limits: Limits,
) -> StageReport:
    """Read what the report needs; ``counts`` are those of ``scope``'s stage."""
    run_ids = [run.run_id for run in store.runs(scope)]
    samples = store.samples(run_ids)
    return StageReport(
        scope=scope,
        counts=counts,
        verdict=judge_stage(counts, thresholds),
        checks=check_stage(counts, thresholds),
        steps=tuple(store.step_counts(scope)),
        models=tuple(store.model_counts(scope)),
        runs=len({run_of(run_id) for run_id in run_ids}),
        loads=tuple(store.loads(run_ids)),
        residencies=tuple(store.residencies_of_runs(run_ids)),
        peaks=peaks(samples),
        judgements=tuple(judge(samples, limits)),
        rejections=tuple(store.worst_examples(scope, status=Status.REJECTED, limit=_EXAMPLES)),
        failures=tuple(store.failures_by_class(scope)),
    )


def stage_report_json(report: StageReport) -> dict[str, Any]:
    """The report as plain data; rates come with what they are rates of."""
    counts = report.counts
    return {
        "workflow": report.scope.workflow,
        "dataset": report.scope.dataset,
        "stage": report.scope.partition,
        "verdict": str(report.verdict.verdict),
        "reasons": list(report.verdict.reasons),
        "checks": [asdict(check) for check in report.checks],
        "counts": asdict(counts)
        | {
            "first_claim": _iso(counts.first_claim),
            "last_commit": _iso(counts.last_commit),
            "attempted": counts.attempted,
            "ended": counts.ended,
        },
        "rates": {
            name: getattr(counts, name)
            for name in (
                *("rejection_rate", "error_rate", "success_rate"),
                *("per_minute", "subjects_per_minute"),
                *("seconds_per_interaction", "seconds_per_subject"),
            )
        },
        "steps": [asdict(step) | {"attempted": step.attempted} for step in report.steps],
        "models": [asdict(model) | {"attempted": model.attempted} for model in report.models],
        "runs": report.runs,
        "loads": [asdict(load) | {"at": _iso(load.at)} for load in report.loads],
        "residencies": [asdict(stay) | {"seconds": stay.seconds} for stay in report.residencies],
        "resources": {
            "peaks": asdict(report.peaks) if report.peaks else None,
            "judgements": [asdict(judgement) for judgement in report.judgements],
        },
        "worst_rejections": [asdict(example) for example in report.rejections],
        "failures": [asdict(failure) for failure in report.failures],
    }


def stage_report_markdown(report: StageReport) -> str:
    parts = [
        *_header(report),
        *_counts(report.counts),
        *_speed(report),
        *_steps(report),
        *_models(report),
        *_engines(report),
        *_machine(report),
        *_rejections(report),
        *_failures(report),
    ]
    return "\n\n".join(parts) + "\n"


def examples_markdown(examples: Sequence[Example]) -> str:
    """Interactions with their reason in full and the start of their output."""
    blocks = []
    for example in examples:
        blocks.append(
            f"**{code(example.subject_key)}**, step {example.step}, "
            f"interaction {example.interaction_id}, class {example.error_class or 'none'}"
        )
        blocks.append(fence(example.reason or "no reason was stored"))
        if example.output_excerpt is not None:
            blocks += ["Output:", fence(example.output_excerpt)]
    return "\n\n".join(blocks)


def _header(report: StageReport) -> list[str]:
    counts = report.counts
    facts = [
        ("dataset", report.scope.dataset),
        ("subjects", f"{counts.subjects} of ordinals {counts.first} to {counts.end - 1}"),
        ("first claim", _iso(counts.first_claim)),
        ("last commit", _iso(counts.last_commit)),
        ("runs", report.runs),
    ]
    outcomes = [[check.name, _outcome(check), check.description] for check in report.checks]
    return [
        f"# {report.scope.workflow}, {report.scope.partition}: {report.verdict.verdict}",
        listing(facts),
        *[f"> {reason}" for reason in report.verdict.reasons],
        "## Checks",
        table(["check", "result", "found"], outcomes),
    ]


def _outcome(check: CheckOutcome) -> str:
    if check.passed:
        return "passed"
    return "FAILED" if check.blocking else "warns"


def _counts(counts: StageCounts) -> list[str]:
    names = ("completed", "rejected", "failed", "skipped", "pending", "running", "missing", "stale")
    expected = counts.subjects * counts.steps
    rows = [[name, getattr(counts, name), _of(getattr(counts, name), expected)] for name in names]
    title = f"of {expected} ({counts.subjects} subjects x {counts.steps} steps)"
    return ["## Counts", table(["interactions", "count", title], rows)]


def _speed(report: StageReport) -> list[str]:
    counts = report.counts
    work = f"{counts.working_seconds:.1f} s of work"
    attempted = f"{counts.made} attempted in {work}"
    subjects = f"{counts.made_subjects} ended in {work}"
    seconds = sum(load.seconds for load in report.loads)
    models = len({load.model for load in report.loads})
    loads = (
        f"by the runs whose results stand; all {report.runs} runs: {len(report.loads)} loads of "
        f"{models} models, {seconds:.1f} s"
    )
    rows: list[list[object]] = [
        ["interactions a minute", _number(counts.per_minute, 1), attempted],
        ["subjects a minute", _number(counts.subjects_per_minute, 1), subjects],
        ["seconds per interaction", _number(counts.seconds_per_interaction, 3), attempted],
        ["seconds per subject", _number(counts.seconds_per_subject, 3), subjects],
        ["model loads", counts.model_loads, loads],
    ]
    return ["## Speed", table(["measure", "value", "from"], rows)]


def _steps(report: StageReport) -> list[str]:
    rows = [[step.step, step.model, *_tally(step)] for step in report.steps]
    return ["## Steps", _LATENCY, table(["step", "model", *_TALLY], rows)]


def _models(report: StageReport) -> list[str]:
    rows = [[model.model, *_tally(model)] for model in report.models]
    return ["## Models", table(["model", *_TALLY], rows)]


def _engines(report: StageReport) -> list[str]:
    """Each model in each run: what was predicted before it, and what it took."""
    runs: dict[tuple[str, str], list[Residency]] = {}
    for stay in report.residencies:
        runs.setdefault((stay.run_id, stay.model), []).append(stay)
    rows = [
        [
            *(
                stays[0].model,
                stays[0].engine,
                len(stays),
                sum(stay.interactions for stay in stays),
            ),
            _number(sum(stay.start_seconds for stay in stays), 1),
            _number(sum(stay.busy_seconds for stay in stays), 1),
            _number(sum(stay.seconds for stay in stays), 1),
            _number(stays[0].predicted_seconds, 1),
            _megabytes(max((stay.memory_seen or 0 for stay in stays), default=0) or None),
            *(_megabytes(stays[0].memory_predicted), stays[0].reason),
        ]
        for stays in runs.values()
    ]
    headings = [
        *("model", "engine", "turns", "answers", "start s", "work s", "took s", "predicted s"),
        *("MB seen", "MB predicted", "why this engine"),
    ]
    return ["## Engines", _ENGINES, table(headings, rows)] if rows else []


_ENGINES = (
    "One row for each model in each run, the oldest first, also of runs whose results have been made "
    "anew. Turns: how often the model had its engine. Answers: what it gave, retries included, failures "
    "not. Start: until it was ready; work: from then to its last answer. Predicted: before the run, from "
    "up to five earlier turns of the same model on the same hardware; empty where there were none, or "
    "where memory cannot be told apart."
)
_LATENCY = (
    "Rates are of the attempted (completed + rejected + failed). Seconds are from the start of an "
    "interaction's batch to its own end: batches overlap many, so they do not add up to the work."
)
_TALLY = [
    *("completed", "rejected", "failed", "skipped", "open", "attempted", "rejection", "errors"),
    *("p50 s", "p95 s", "max s", "prompt tokens", "output tokens"),
]


def _tally(counts: StepCounts | ModelCounts) -> list[object]:
    return [
        *(counts.completed, counts.rejected, counts.failed, counts.skipped),
        counts.pending + counts.running,
        counts.attempted,
        _rate(counts.rejected, counts.attempted),
        _rate(counts.failed, counts.attempted),
        _number(counts.p50_seconds, 2),
        _number(counts.p95_seconds, 2),
        _number(counts.max_seconds, 2),
        *(counts.prompt_tokens, counts.output_tokens),
    ]


def _machine(report: StageReport) -> list[str]:
    parts = ["## Machine"]
    found = report.peaks
    if found is None:
        parts.append("No sample was taken.")
    else:
        facts = [
            ("samples", f"{found.samples} in {report.runs} runs"),
            ("most connections", f"{found.connections} of {found.connections_max}"),
            (
                "least memory available",
                _gigabytes(found.memory_available_least, found.memory_total),
            ),
        ]
        if found.gpu_memory:
            facts.append(("most GPU memory in use", _gigabytes(*found.gpu_memory)))
        parts.append(listing(facts))
    rows = [[one.name, one.status.replace("_", " "), one.detail] for one in report.judgements]
    return [*parts, table(["judged", "result", "found"], rows)]


def _rejections(report: StageReport) -> list[str]:
    if not report.rejections:
        return ["## Worst rejections", "None."]
    title = f"{len(report.rejections)} of {report.counts.rejected}, most attempts first."
    return ["## Worst rejections", title, examples_markdown(report.rejections)]


def _failures(report: StageReport) -> list[str]:
    """Each class with its count and one message in full."""
    if not report.failures:
        return ["## Rejected and failed by class", "None."]
    attempted = report.counts.attempted
    parts = ["## Rejected and failed by class"]
    for failure in report.failures:
        parts.append(
            f"**{failure.error_class}** ({failure.status}): "
            f"{_rate(failure.count, attempted)} of the attempted "
            f"({failure.count} of {attempted}); one of them, step {failure.step} of "
            f"{code(failure.subject_key)}:"
        )
        parts.append(fence(failure.message or "no message was stored"))
    return parts


def _of(count: int, total: int) -> str:
    return share(count / total) if total else "-"


def _rate(count: int, attempted: int) -> str | None:
    return share(count / attempted) if attempted else None


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.0f}"


def _gigabytes(part: int, total: int) -> str:
    return f"{part / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
