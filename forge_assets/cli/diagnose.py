"""`forge diagnose`: why an execution, a job or a launch ended as it did."""

import json
from datetime import UTC

from forge_assets.cli.open import out
from forge_assets.launches.clouds import open_clouds
from forge_assets.launches.diagnosed import RETRY_RULES, Diagnosed, diagnose
from forge_assets.project import load_project
from resources.cloud.regions import utc_now


def show(name: str, as_json: bool) -> int:
    """0: the thing is fine, or the reason was found. Refusal when there is no such thing."""
    from resources.database import open_engine
    from resources.diagnosis_store import DiagnosisStore
    from resources.launch_store import LaunchStore

    clouds = open_clouds(load_project().config.cloud)
    engine = open_engine()
    found = diagnose(name, clouds, LaunchStore(engine), DiagnosisStore(engine), utc_now)
    if as_json:
        out(json.dumps(found.as_json(), indent=2))
    else:
        _print(found)
    return 0 if found.is_answered else 1


def _print(found: Diagnosed) -> None:
    reason = found.reason
    out(found.name)
    ended = getattr(found.resource, "ended", None)
    _line("state", found.state + (f", ended {ended:%Y-%m-%d %H:%M:%S} UTC" if ended else ""))
    if found.launch is not None and found.resource is not None:
        _line("launch", f"{found.launch.id}, {found.launch.state}")
    if found.is_answered and not reason.is_found:
        _line("reason", "nothing has failed")
    else:
        _line("reason", reason.text)
        _line("told by", reason.source)
    if reason.cause is not None:
        entry = reason.cause.entry
        _line("class", f"{entry.error_class} ({entry.id})")
        _line("retry", RETRY_RULES[entry.retry])
    if reason.advice:
        _line("advice", reason.advice)
    for advice in found.elsewhere:
        _line("", advice)
    if reason.logs:
        _line("log", reason.logs)
    for event in found.history:
        _line("step", f"{event.at.astimezone(UTC):%H:%M:%S} UTC  {event.kind}")
    if reason.context:
        out("\nlog around the cause:" if reason.is_found else "\nlast lines of the log:")
        for line in reason.context:
            out(f"  {line}")


def _line(name: str, value: str) -> None:
    out(f"{name:9}{value}")
