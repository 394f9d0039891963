"""A run as Dagster's records tell it: what failed in it, in one sentence, and which checks."""

from collections.abc import Collection, Sequence

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from forge_assets.alerts.message import EndedRun, FailedCheck
from forge_assets.interactions import dagster_runs

_FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
_RECORDS = 2000
"""Of checks, of one run."""
_OF_ALL_ASSETS = "__ASSET_JOB"


def read_run(
    instance: dg.DagsterInstance, run_id: str, workflows: Collection[str]
) -> EndedRun | None:
    """None when Dagster keeps the run no more. ``workflows``: the names of the project's."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return None
    failed = run.status == dg.DagsterRunStatus.FAILURE
    events = _events(instance, run_id, _FAILURES) if failed else []
    reason = ""
    if failed and not dagster_runs.only_checks_failed(events):
        reason = dagster_runs.why_events_failed(events)[0]
    return EndedRun(
        run_id,
        failed,
        _subject(run),
        workflow=", ".join(_workflows(run, workflows)),
        stage=run.tags.get(PARTITION_NAME_TAG, ""),
        reason=reason,
        interrupted=dagster_runs.interrupted(events),
        several=len(workflows) > 1,
        checks=_failed_checks(instance, run_id),
    )


def _failed_checks(instance: dg.DagsterInstance, run_id: str) -> Sequence[FailedCheck]:
    """The last word on each, those that block first."""
    last: dict[dg.AssetCheckKey, dg.AssetCheckEvaluation] = {}
    for event in _events(instance, run_id, {dg.DagsterEventType.ASSET_CHECK_EVALUATION}):
        found = event.event_specific_data
        if isinstance(found, dg.AssetCheckEvaluation):
            last[found.asset_check_key] = found
    failed = [_check(found) for found in last.values() if not found.passed]
    return sorted(failed, key=lambda check: check.warns)


def _check(found: dg.AssetCheckEvaluation) -> FailedCheck:
    return FailedCheck(
        found.asset_key.to_user_string(),
        found.check_name,
        found.description or _figures(found),
        warns=found.severity is not dg.AssetCheckSeverity.ERROR,
    )


def _figures(found: dg.AssetCheckEvaluation) -> str:
    """For a check that has no sentence."""
    plain = {name: value.value for name, value in found.metadata.items()}
    shown = [f"{name} {value}" for name, value in plain.items() if isinstance(value, int | float)]
    return ", ".join(shown) or "failed"


def _events(
    instance: dg.DagsterInstance, run_id: str, kinds: set[dg.DagsterEventType]
) -> list[dg.DagsterEvent]:
    found = instance.get_records_for_run(run_id, of_type=kinds, limit=_RECORDS).records
    events = [record.event_log_entry.dagster_event for record in found]
    return [event for event in events if event is not None]


def _workflows(run: dg.DagsterRun, known: Collection[str]) -> Sequence[str]:
    of_assets = {key.path[0] for key in run.asset_selection or ()}
    return [name for name in known if name in of_assets]


def _subject(run: dg.DagsterRun) -> str:
    """The job, or the assets of a run that has none of its own."""
    if run.job_name != _OF_ALL_ASSETS:
        return run.job_name
    keys = sorted(key.to_user_string() for key in run.asset_selection or ())
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") or "assets"
