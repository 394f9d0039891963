"""W&B's launch agent with two faults of its Vertex AI runner mended.

It drops the scheduling of a job, and on Python 3.11 and later it never sees one end. Arguments are
those of ``wandb launch-agent``.
"""

import inspect
import os
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

REGION_VARIABLES = ("FORGE_TARGET_REGION", "GOOGLE_CLOUD_REGION")
"""Where jobs run: what `forge launch` sets, then what wandb itself knows."""

STRATEGIES = ("STANDARD", "SPOT", "FLEX_START")
STATES = {
    "JOB_STATE_PENDING": "starting",
    "JOB_STATE_RUNNING": "running",
    "JOB_STATE_SUCCEEDED": "finished",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "finished",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_CANCELLING": "stopping",
    "JOB_STATE_CANCELLED": "stopped",
}
"""What W&B calls them; any other is ``unknown``: it waits, and is no end."""

# Found in the code objects of what is replaced: the parameters alone would not tell a new body.
_LAUNCH_PARAMETERS = ("launch_project", "spec_args", "run_args", "environment", "synchronous")
_LAUNCH_USES = {"get_module", "CustomJob", "submit"}
_STATUS_USES = {"_job", "state", "Status"}
_JOB_OPTIONS = {"scheduling_strategy", "max_wait_duration"}

_wanted: ContextVar[Mapping[str, Any]] = ContextVar("wanted")
"""Of the launch that this task carries out."""


class NotAsExpected(Exception):
    """The message names what is different."""


def check(runner: ModuleType, platform: ModuleType) -> None:
    """Raise NotAsExpected when what ``mend`` replaces is not what it was made for."""
    launch = getattr(runner, "launch_vertex_job", None)
    status = getattr(getattr(runner, "VertexSubmittedRun", None), "get_status", None)
    job = getattr(platform, "CustomJob", None)
    if not inspect.iscoroutinefunction(launch) or not _uses(launch, _LAUNCH_USES):
        raise NotAsExpected("launch_vertex_job is not what it was")
    if tuple(inspect.signature(launch).parameters) != _LAUNCH_PARAMETERS:
        raise NotAsExpected("launch_vertex_job takes other arguments")
    if not inspect.iscoroutinefunction(status) or not _uses(status, _STATUS_USES):
        raise NotAsExpected("VertexSubmittedRun.get_status is not what it was")
    if job is None or not set(inspect.signature(job.submit).parameters) >= _JOB_OPTIONS:
        raise NotAsExpected("CustomJob.submit of google-cloud-aiplatform knows no scheduling")
    if "location" not in inspect.signature(job.__init__).parameters:
        raise NotAsExpected("CustomJob of google-cloud-aiplatform takes no location")


def mend(runner: ModuleType, platform: ModuleType, strategies: Any) -> None:
    """Change the two modules: ``wandb...vertex_runner`` and ``google.cloud.aiplatform``.

    ``strategies``: the enum of Vertex AI. A job's ``run`` arguments may then hold
    ``scheduling_strategy`` (one of STRATEGIES), ``max_wait_duration`` (seconds) and ``region``.
    """
    check(runner, platform)
    stock_launch, stock_job = runner.launch_vertex_job, platform.CustomJob

    async def launch_vertex_job(
        launch_project: Any,
        spec_args: dict[str, Any],
        run_args: dict[str, Any],
        environment: Any,
        synchronous: bool = False,
    ) -> Any:
        try:
            _wanted.set(wanted(run_args, strategies))
        except ValueError as error:
            raise runner.LaunchError(str(error)) from error
        return await stock_launch(launch_project, spec_args, run_args, environment, synchronous)

    class CustomJob(stock_job):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Kept here: the thread that submits has another context.
            self._scheduling = dict(_wanted.get({}))
            region = self._scheduling.pop("region", None)
            super().__init__(*args, **kwargs, **({"location": region} if region else {}))

        def submit(self, *args: Any, **kwargs: Any) -> None:
            super().submit(*args, **{**kwargs, **self._scheduling})

    async def get_status(self: Any) -> Any:
        # By name: str() of an IntEnum has been its number since Python 3.11.
        # A state newer than the library is a bare number.
        name = getattr(self._job.state, "name", "")
        return runner.Status(STATES.get(name, "unknown"))

    runner.launch_vertex_job = launch_vertex_job  # type: ignore[attr-defined]
    runner.VertexSubmittedRun.get_status = get_status
    platform.CustomJob = CustomJob  # type: ignore[attr-defined]


def wanted(run_args: Mapping[str, Any], strategies: Any) -> dict[str, Any]:
    """What the stock runner drops of a job's ``run`` arguments. ValueError with a sentence."""
    asked: dict[str, Any] = {}
    if strategy := run_args.get("scheduling_strategy"):
        if strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise ValueError(f"vertex.run.scheduling_strategy is {strategy!r}; it may be {known}.")
        asked["scheduling_strategy"] = strategies[strategy]
    if (wait := run_args.get("max_wait_duration")) is not None:
        if isinstance(wait, bool) or not isinstance(wait, int | float) or wait < 0:
            raise ValueError(f"vertex.run.max_wait_duration is {wait!r}; it must be in seconds.")
        asked["max_wait_duration"] = int(wait)
    if region := run_args.get("region"):
        asked["region"] = region
    return asked


def configuration(home: Path, folder: Path, region: Callable[[], str]) -> list[str]:
    """Arguments that tell the agent the cloud and the region; none where ``home`` holds its file.

    Without either it asks ``gcloud``, which is not in the image. SystemExit with one line when
    nobody tells a region.
    """
    if (home / ".config" / "wandb" / "launch-config.yaml").exists():
        return []
    if not (named := region()):
        raise SystemExit("Nothing tells where jobs run: pass --region or set FORGE_TARGET_REGION.")
    path = folder / "launch-config.yaml"
    path.write_text(f"environment:\n  type: gcp\n  region: {named}\n", encoding="utf-8")
    return ["--config", str(path)]


def region() -> str:
    """As the environment names it, else where this Cloud Run job runs; empty when nobody knows."""
    for name in REGION_VARIABLES:
        if named := os.environ.get(name):
            return named
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/region", headers={"Metadata-Flavor": "Google"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            # projects/123/regions/us-central1
            return answer.read().decode().strip().rsplit("/", 1)[-1]
    except OSError:
        return ""


def main(arguments: Sequence[str] | None = None) -> None:
    # The agent would cancel what waits for quota or flex-start machines longer than 30 minutes: it
    # starts counting when the job is submitted. Vertex AI has a longest wait of its own.
    os.environ.setdefault("WANDB_LAUNCH_START_TIMEOUT", "0")
    # Ended like this it closes its own W&B run; by the signal itself it would not.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    given = sys.argv[1:] if arguments is None else arguments
    # The home of a Cloud Run job may not be writable.
    configured = configuration(Path.home(), Path(tempfile.gettempdir()), region)
    _stock_agent()(["launch-agent", *configured, *given])


def _stock_agent() -> Callable[[Sequence[str]], Any]:
    """The mended ``wandb`` command; SystemExit with one line when it cannot be mended."""
    import wandb
    from google.cloud import aiplatform
    from google.cloud.aiplatform_v1.types import Scheduling
    from wandb.cli.cli import cli
    from wandb.sdk.launch.runner import vertex_runner

    try:
        mend(vertex_runner, aiplatform, Scheduling.Strategy)
    except NotAsExpected as error:
        raise SystemExit(
            f"wandb {wandb.__version__} with google-cloud-aiplatform {aiplatform.__version__}:"
            f" {error}, so jobs would lose their scheduling; build the image with the pinned versions."
        ) from error
    return cli


def _uses(function: Any, names: set[str]) -> bool:
    return names <= set(function.__code__.co_names)


if __name__ == "__main__":
    main()
