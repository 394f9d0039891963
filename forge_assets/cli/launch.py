"""`forge launch`: submit a job and see that it is there."""

import json
import sys

from forge_assets.cli.exit_codes import INTERRUPTED
from forge_assets.cli.open import out, tell
from forge_assets.launches.launching import launch_job
from forge_assets.launches.outcome import LaunchResult
from forge_assets.launches.rocket import lines
from forge_assets.project import load_project
from resources.errors import ForgeError, Refusal


def run(name: str | None, direct: bool, as_json: bool) -> int:
    """On a terminal each step and the result; elsewhere the steps on stderr and one line of JSON."""
    project = load_project()
    on_terminal = sys.stdout.isatty() and not as_json
    try:
        result = launch_job(project, name, direct, out if on_terminal else tell)
    except Refusal as error:
        if not on_terminal:
            out(json.dumps({"outcome": "refused", "submitted": False, "reason": str(error)}))
        raise
    except KeyboardInterrupt:
        tell(
            "stopped; the launch may be under way: the same command within an hour goes on with it"
        )
        return INTERRUPTED
    if on_terminal:
        for line in lines(result):
            out(line)
    else:
        out(json.dumps(result.as_json()))
        if result.sentence:
            tell(f"forge: {result.sentence}")
    _report(result)
    return result.exit_code


def _report(result: LaunchResult) -> None:
    """To Dagster. The launch is what it is, also when Dagster cannot be told: the sensor does then."""
    import dagster as dg

    from forge_assets.launches.reporting import report_launch
    from resources.database import open_engine
    from resources.launch_store import LaunchStore

    try:
        with dg.DagsterInstance.get() as instance:
            report_launch(instance, LaunchStore(open_engine()), result.launch)
    except (ForgeError, dg.DagsterError) as error:
        tell(f"Dagster was not told: {error}")
