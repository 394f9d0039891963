"""Failed things with logs, for the tests of diagnostics."""

from datetime import datetime, timedelta

from google.cloud.aiplatform_v1.types import JobState

from forge_assets.cloud_config import CloudConfig
from forge_assets.launches.clouds import Clouds
from resources.cloud.credentials import access
from tests.wire.jobs import Life
from tests.wire.runs import ExecutionLife
from tests.wire.server import FakeGoogle

REGION = "us-central1"
RUNNER = f"projects/demo/locations/{REGION}/jobs/vertex-ai-launcher"

EXITED = "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error."
TRACEBACK = """Traceback (most recent call last):
  File "/app/train.py", line 9, in <module>
    main()
  File "/app/train.py", line 5, in main
    raise ValueError("no rows")
ValueError: no rows"""
OUT_OF_MEMORY = """Traceback (most recent call last):
  File "/app/train.py", line 9, in <module>
    loss.backward()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB."""


def clouds_of(google: FakeGoogle) -> Clouds:
    return Clouds(CloudConfig(), access("demo", google.environment), google.environment)


def failed_execution(
    google: FakeGoogle, ended_ago: float = 0.0, exit_code: int = 1, signal: int = 0, says: str = ""
) -> str:
    """The name of one that ran a minute."""
    google.runs.add_job(RUNNER)
    life = ExecutionLife(ends=60, exit_code=exit_code, signal=signal, message=says)
    return google.runs.start(RUNNER, age_seconds=60 + ended_ago, life=life).name


def job_that(
    google: FakeGoogle, end: JobState, error: str = "", ended_ago: float = 0.0, ran: bool = True
) -> str:
    """The name of one that ended a minute after its create."""
    states = [(0, JobState.JOB_STATE_PENDING), (60, end)]
    if ran:
        states.insert(1, (2, JobState.JOB_STATE_RUNNING))
    life = Life(tuple(states), error)
    return google.jobs.add(REGION, age_seconds=60 + ended_ago, life=life)


def write_job_log(
    google: FakeGoogle, job: str, at: datetime, *texts: str, task: str = "workerpool0-0"
) -> None:
    """A line an entry, as the training agent does it."""
    for text in texts:
        for line in text.split("\n"):
            google.logs.add_json(at, line, job.rsplit("/", 1)[-1], task)


def write_log(google: FakeGoogle, execution: str, at: datetime, *texts: str) -> None:
    """A line an entry, a millisecond apart."""
    lines = [line for text in texts for line in text.split("\n")]
    for number, line in enumerate(lines):
        google.logs.add_text(at + number * timedelta(milliseconds=1), line, short(execution))


def short(name: str) -> str:
    return name.rsplit("/", 1)[-1]
