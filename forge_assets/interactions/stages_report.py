"""All stages side by side, against every target and the measured baseline. JSON and Markdown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge_assets.config import Thresholds
from forge_assets.markdown import listing, table
from forge_assets.stage_checks import CheckOutcome, check_stage, judge_stage, share
from resources.stage_counts import StageCounts

ALWAYS_SHOWN = 3
NOT_MEASURED = "not measured yet: make bench"


class Baseline(BaseModel):
    """One measured way to do the same work without this program's batching.

    ``bench/*.json`` hold them in a list under ``baselines``; what else stands there is the bench's.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    """Such as ``sequential generate, float32``."""
    seconds_per_interaction: float = Field(gt=0)
    interactions: int = Field(gt=0)
    device: str
    measured_at: str


class _BenchFile(BaseModel):
    baselines: tuple[Baseline, ...] = ()


@dataclass(frozen=True, slots=True)
class Baselines:
    """What was measured, and the files that could not be understood."""

    measured: tuple[Baseline, ...] = ()
    unreadable: tuple[str, ...] = ()


def read_baselines(folder: Path) -> Baselines:
    """The baselines of every JSON file in the bench folder, by file name."""
    measured: list[Baseline] = []
    unreadable: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            measured += _BenchFile.model_validate_json(path.read_bytes()).baselines
        except (OSError, ValidationError) as error:
            reason = f"{error.errors()[0]['msg']}" if isinstance(error, ValidationError) else error
            unreadable.append(f"{path.name}: {reason}")
    return Baselines(tuple(measured), tuple(unreadable))


def stages_report_json(
    counts: Sequence[StageCounts], thresholds: Thresholds, baselines: Baselines
) -> dict[str, Any]:
    """Targets, baselines and one entry a stage: every check with its figures."""
    return {
        "targets": thresholds.model_dump(),
        "baselines": [baseline.model_dump() for baseline in baselines.measured],
        "unreadable_baselines": list(baselines.unreadable),
        "stages": [_stage_json(stage, thresholds) for stage in _shown(counts)],
    }


def stages_report_markdown(
    workflow: str, counts: Sequence[StageCounts], thresholds: Thresholds, baselines: Baselines
) -> str:
    """One row a stage, the targets above, the baselines below; what misses its target is bold."""
    rows = [
        _target_row(thresholds),
        *[_stage_row(stage, thresholds) for stage in _shown(counts)],
        *[_baseline_row(number, baseline) for number, baseline in _numbered(baselines)],
    ]
    parts = [f"# {workflow}: all stages", table(_HEADINGS, rows), _LEGEND]
    if baselines.measured:
        sources = [(f"baseline {n}", _source(one)) for n, one in _numbered(baselines)]
        parts += ["Measured by `make bench`, of the work that each names:", listing(sources)]
    else:
        parts.append(f"Measured baseline: {NOT_MEASURED}.")
    if baselines.unreadable:
        unreadable = [("cannot be read", text) for text in baselines.unreadable]
        parts += ["Files in bench:", listing(unreadable)]
    return "\n\n".join(parts) + "\n"


_HEADINGS = [
    *("stage", "verdict", "subjects", "interactions ended", "rejection", "errors", "success"),
    *("interactions a minute", "subjects a minute", "s per interaction", "s per subject", "loads"),
]
_LEGEND = (
    "Rejection, errors and success are of the attempted interactions (completed + rejected + "
    "failed). Per minute and seconds are those of the stretch of work that made most of the results "
    "that stand, from first claim to last commit, model loads included. A value in bold misses its target."
)


def _shown(counts: Sequence[StageCounts]) -> list[StageCounts]:
    """Stages that hold subjects, and the first three in any case."""
    return [one for place, one in enumerate(counts) if one.subjects or place < ALWAYS_SHOWN]


def _target_row(thresholds: Thresholds) -> list[object]:
    by_subjects = thresholds.per_minute_counts == "subjects"
    rate = f"≥ {thresholds.per_minute:g}"
    seconds = thresholds.seconds_per_interaction
    return [
        *("target", "passed", None, "all"),
        f"< {share(thresholds.rejection_rate)}",
        f"< {share(thresholds.error_rate)}",
        f"> {share(thresholds.success_rate)}",
        *((None, rate) if by_subjects else (rate, None)),
        None if seconds is None else f"≤ {seconds:g}",
        *(None, None),
    ]


def _stage_row(counts: StageCounts, thresholds: Thresholds) -> list[object]:
    checks = {check.name: check for check in check_stage(counts, thresholds)}
    throughput = checks["throughput"]
    held_to_subjects = thresholds.per_minute_counts == "subjects"
    work = f"in {counts.working_seconds:.1f} s"
    per_minute = _value(counts.per_minute, 1, f"{counts.made} {work}")
    subjects = _value(counts.subjects_per_minute, 1, f"{counts.made_subjects} {work}")
    expected = counts.subjects * counts.steps
    return [
        counts.partition,
        judge_stage(counts, thresholds).verdict,
        counts.subjects,
        _marked(f"{counts.ended} of {expected}", checks["nothing_lost"].passed, expected),
        _share(checks["rejection_rate"], "rejected"),
        _share(checks["error_rate"], "failed"),
        _share(checks["success_rate"], "completed"),
        per_minute if held_to_subjects else _marked(per_minute, throughput.passed),
        _marked(subjects, throughput.passed) if held_to_subjects else subjects,
        _marked(
            _value(counts.seconds_per_interaction, 3, f"{counts.made} {work}"),
            _seconds_hold(counts, thresholds) is not False,
        ),
        _value(counts.seconds_per_subject, 3, f"{counts.made_subjects} {work}"),
        counts.model_loads,
    ]


def _numbered(baselines: Baselines) -> list[tuple[int, Baseline]]:
    return list(enumerate(baselines.measured, start=1))


def _source(baseline: Baseline) -> str:
    made = f"{baseline.interactions} on {baseline.device}, {baseline.measured_at}"
    return f"{baseline.name} ({made})"


def _baseline_row(number: int, baseline: Baseline) -> list[object]:
    seconds = baseline.seconds_per_interaction
    return [
        f"baseline {number}",
        *[None] * 6,
        f"{60 / seconds:.1f}",
        None,
        f"{seconds:.3f}",
        *(None, None),
    ]


def _stage_json(counts: StageCounts, thresholds: Thresholds) -> dict[str, Any]:
    verdict = judge_stage(counts, thresholds)
    return {
        "partition": counts.partition,
        "verdict": str(verdict.verdict),
        "reasons": list(verdict.reasons),
        "subjects": counts.subjects,
        "ended": counts.ended,
        "expected": counts.subjects * counts.steps,
        "checks": [asdict(check) for check in check_stage(counts, thresholds)],
        "seconds_per_interaction": {
            "value": counts.seconds_per_interaction,
            "attempted": counts.attempted,
            "worked": counts.worked,
            "working_seconds": counts.working_seconds,
            "target": thresholds.seconds_per_interaction,
            "passed": _seconds_hold(counts, thresholds),
        },
        "seconds_per_subject": {
            "value": counts.seconds_per_subject,
            "finished_subjects": counts.finished_subjects,
            "working_seconds": counts.working_seconds,
        },
        "model_loads": counts.model_loads,
    }


def _seconds_hold(counts: StageCounts, thresholds: Thresholds) -> bool | None:
    """None where there is no target or nothing to hold to it."""
    target, value = thresholds.seconds_per_interaction, counts.seconds_per_interaction
    return None if target is None or value is None else value <= target


def _share(check: CheckOutcome, noun: str) -> str | None:
    attempted = check.metadata["attempted"]
    if not attempted:
        return None
    part = check.metadata[noun]
    return _marked(f"{share(part / attempted)} ({part} of {attempted})", check.passed)


def _value(value: float | None, digits: int, source: str) -> str | None:
    return None if value is None else f"{value:.{digits}f} ({source})"


def _marked(text: str | None, holds: bool, shown: object = True) -> str | None:
    """Bold when the target is missed; plain where there is nothing to hold to it."""
    return f"**{text}**" if text is not None and not holds and shown else text
