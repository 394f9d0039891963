"""The ladder: structured fields, then one read of the log, with real clients against a fake Google."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import JobState

from forge_assets.launches.catalogue import entries
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.log_causes import RANKS
from forge_assets.launches.reasons import (
    CONTEXT_LINES,
    Reason,
    build_reason,
    execution_reason,
    job_reason,
)
from resources.cloud.cloud_build import Build
from resources.cloud.connections import LOGGING
from resources.cloud.wire_values import NEVER
from resources.diagnosis_store import DiagnosisStore
from tests.launches.diagnosing import (
    EXITED,
    OUT_OF_MEMORY,
    REGION,
    TRACEBACK,
    clouds_of,
    failed_execution,
    job_that,
    short,
    write_job_log,
    write_log,
)
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.jobs import Life
from tests.wire.server import FakeGoogle

SECOND = timedelta(seconds=1)
LONG_AGO = 400.0
LONG_LIFE = Life(
    ((0, JobState.JOB_STATE_RUNNING), (999, JobState.JOB_STATE_FAILED)),
    EXITED,
)
FAILED = JobState.JOB_STATE_FAILED


@pytest.fixture
def clouds(google: FakeGoogle) -> Clouds:
    return clouds_of(google)


@pytest.fixture
def diagnoses(postgres_engine: sa.Engine) -> DiagnosisStore:
    return DiagnosisStore(postgres_engine)


class Asked:
    """The two questions, with the clock's time."""

    def __init__(self, clouds: Clouds, clock: HandClock, diagnoses: DiagnosisStore | None) -> None:
        self.clouds, self.clock, self.diagnoses = clouds, clock, diagnoses

    def execution(self, name: str, with_logs: bool = True) -> Reason:
        execution = self.clouds.cloud_run.execution(name, 5)
        return execution_reason(self.clouds, self.diagnoses, execution, 10, self.clock(), with_logs)

    def job(self, name: str, with_logs: bool = True) -> Reason:
        job = self.clouds.vertex.get(name, 5)
        return job_reason(self.clouds, self.diagnoses, job, 10, self.clock(), with_logs)


@pytest.fixture
def asked(clouds: Clouds, clock: HandClock) -> Asked:
    """Without a store."""
    return Asked(clouds, clock, None)


@pytest.fixture
def kept(clouds: Clouds, clock: HandClock, diagnoses: DiagnosisStore) -> Asked:
    return Asked(clouds, clock, diagnoses)


def entry_id(reason: Reason) -> str | None:
    return reason.cause.entry.id if reason.cause else None


def test_every_ranked_entry_is_of_the_catalogue() -> None:
    assert set(RANKS) <= {entry.id for entry in entries()}


def test_the_cause_of_a_job_is_in_its_json_lines(
    google: FakeGoogle, kept: Asked, clock: HandClock
) -> None:
    name = job_that(google, FAILED, EXITED)
    write_job_log(google, name, clock.now, "step 1 loss 0.5", OUT_OF_MEMORY, "wandb: done")
    reason = kept.job(name)
    assert (reason.source, entry_id(reason)) == ("log", "G01")
    assert reason.text == OUT_OF_MEMORY.splitlines()[-1]
    assert reason.advice.startswith("Lower the batch size")
    assert reason.context == ("step 1 loss 0.5", *OUT_OF_MEMORY.splitlines(), "wandb: done")
    assert reason.logs == ""
    # Read once for ever.
    assert kept.job(name) == reason
    assert len(google.named("ListLogEntries")) == 1


def test_a_start_error_is_in_the_audit_log_alone(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = failed_execution(google, says="Task failed.")
    said = (
        "Google Cloud Run Service Agent service-1@serverless-robot-prod.iam.gserviceaccount.com "
        "must have permission to read the image, gcr.io/other/runner."
    )
    google.logs.add_audit(clock.now, said, short(name))
    reason = asked.execution(name)
    assert (reason.source, entry_id(reason), reason.text) == ("audit log", "R05", said)


def test_a_summary_never_hides_the_cause(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    summary = "Execution x has failed to complete, 0/1 tasks were a success."
    name = failed_execution(google, says=summary)
    assert asked.execution(name, with_logs=False).text == "Container called exit(1)."
    write_log(google, name, clock.now - SECOND, TRACEBACK, "Container called exit(1).")
    google.logs.add_audit(clock.now, summary, short(name))
    reason = asked.execution(name)
    assert (entry_id(reason), reason.text) == ("D01", "ValueError: no rows")
    assert reason.context == (*TRACEBACK.splitlines(), "Container called exit(1).", summary)


def test_tracebacks_that_two_workers_interleaved_are_whole(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = job_that(google, FAILED, EXITED)
    for one, two in zip(
        TRACEBACK.splitlines(), [*OUT_OF_MEMORY.splitlines(), "a", "b"], strict=True
    ):
        write_job_log(google, name, clock.now, one)
        write_job_log(google, name, clock.now, two, task="workerpool1-0")
    reason = asked.job(name)
    assert entry_id(reason) == "G01"
    text = "\n".join(reason.context)
    assert TRACEBACK in text
    assert OUT_OF_MEMORY in text


def test_what_came_first_of_one_burst_is_the_cause(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = google.jobs.add(REGION, 1_000, life=LONG_LIFE)
    waits = "RuntimeError: NCCL error in: ProcessGroupNCCL.cpp:1970"
    write_job_log(google, name, clock.now - 900 * SECOND, OUT_OF_MEMORY, "half the batch size")
    write_job_log(google, name, clock.now - 620 * SECOND, TRACEBACK)
    write_job_log(google, name, clock.now - 610 * SECOND, "RuntimeError: a helper is gone")
    write_job_log(google, name, clock.now, waits, task="workerpool1-0")
    assert asked.job(name).text == "ValueError: no rows"


@pytest.mark.parametrize(("seconds_before", "expected"), [(30, "R01"), (200, "R03")])
def test_a_kill_is_a_time_out_that_was_told_within_the_minute_before(
    google: FakeGoogle, asked: Asked, clock: HandClock, seconds_before: int, expected: str
) -> None:
    name = failed_execution(google, exit_code=0, signal=9)
    told = "Terminating task because it has reached the maximum timeout of 1800 seconds."
    write_log(google, name, clock.now - seconds_before * SECOND, told)
    assert entry_id(asked.execution(name)) == expected


def test_a_cancelled_execution_says_so_and_not_the_summary(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    failed_execution(google)
    name = google.runs.start("projects/demo/locations/us-central1/jobs/vertex-ai-launcher").name
    google.runs.cancel(name)
    assert asked.execution(name).text == "The execution was cancelled."
    cancelled = asked.clouds.cloud_run.execution(name, 5)
    summary = "Execution x has failed to complete, 0/1 tasks were a success."
    told = replace(cancelled, message=summary)
    reason = execution_reason(asked.clouds, None, told, 5, clock())
    assert (reason.text, google.named("ListLogEntries")) == ("it was cancelled", [])


def test_a_kill_is_told_by_the_task_where_the_log_is_silent(
    google: FakeGoogle, asked: Asked
) -> None:
    name = failed_execution(google, exit_code=0, signal=9)
    reason = asked.execution(name)
    assert (reason.source, entry_id(reason)) == ("task", "R03")
    assert reason.text == "Container terminated on signal 9."
    assert reason.logs == "no log lines"


def test_no_line_at_all_counts_only_when_late_ones_had_time(
    google: FakeGoogle, kept: Asked, clock: HandClock
) -> None:
    name = job_that(google, FAILED, EXITED)
    early = kept.job(name)
    assert (early.source, entry_id(early), early.logs) == ("job error", "V11", "no log lines")
    clock.forward(LONG_AGO)
    late = kept.job(name)
    assert (late.source, entry_id(late)) == ("log", "V15")
    assert kept.job(name) == late
    assert len(google.named("ListLogEntries")) == 2


def test_an_error_that_tells_the_cause_stays_it_and_gets_its_lines(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    said = "The replica workerpool0-0 ran out of memory and exited with a non-zero status of 137."
    name = job_that(google, FAILED, said)
    write_job_log(google, name, clock.now, "loading 40 GB", "ValueError: no rows")
    reason = asked.job(name)
    assert (reason.source, entry_id(reason), reason.text) == ("job error", "V07", said)
    assert reason.context == ("loading 40 GB", "ValueError: no rows")


def test_what_never_ran_costs_no_read(google: FakeGoogle, asked: Asked, clock: HandClock) -> None:
    quota = (
        "The following quota metrics exceed quota limits: "
        "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus"
    )
    failed = asked.job(job_that(google, FAILED, quota, ran=False))
    assert (failed.source, entry_id(failed), failed.text) == ("job error", "V01", quota)
    expired = asked.job(job_that(google, JobState.JOB_STATE_EXPIRED, ran=False))
    assert (expired.source, entry_id(expired)) == ("job state", "V17")
    queued = asked.job(job_that(google, JobState.JOB_STATE_QUEUED, ended_ago=600, ran=False))
    assert (queued.source, entry_id(queued)) == ("job state", "V16")
    assert "since 11 min" in queued.text
    cancelled = asked.job(job_that(google, JobState.JOB_STATE_CANCELLED))
    assert (cancelled.source, cancelled.cause, cancelled.is_found) == ("job state", None, True)
    assert asked.job(job_that(google, JobState.JOB_STATE_SUCCEEDED)).text == "it succeeded"
    assert google.named("ListLogEntries") == []


def test_what_is_no_fault_of_the_thing_is_no_cause(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = failed_execution(google, exit_code=2)
    for entry in entries():
        if entry.id in ("L01", "W05", "W07", "V16"):
            write_log(google, name, clock.now, entry.sample)
    reason = asked.execution(name)
    assert (reason.source, entry_id(reason)) == ("task", "R04")
    assert len(reason.context) == 4


def test_the_runners_own_report_tells_its_fatal_cause(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = failed_execution(google)
    line = '400 Machine type "a3-highgpu-1g" is not supported.'
    event = {"forge_runner": 1, "event": "fatal", "id": "V03", "class": "config", "line": line}
    write_log(google, name, clock.now, "wandb: ERROR " + line, json.dumps(event))
    reason = asked.execution(name)
    assert (reason.source, entry_id(reason), reason.text) == ("runner report", "V03", line)
    assert reason.context == (f"wandb: ERROR {line}",)


@pytest.mark.parametrize(
    ("fault_class", "advice"),
    [("repeated", "Look at the line."), ("agent_exit", "Read the agent's last lines.")],
)
def test_a_fault_that_only_the_runner_knows_has_its_advice_and_its_last_lines(
    google: FakeGoogle, kept: Asked, clock: HandClock, fault_class: str, advice: str
) -> None:
    name = failed_execution(google, ended_ago=LONG_AGO)
    event = {
        "forge_runner": 1,
        "event": "fatal",
        "id": "",
        "class": fault_class,
        "advice": advice,
        "line": "gremlins in the agent",
        "tail": ["polling", "gremlins in the agent"],
    }
    write_log(google, name, clock.now - 410 * SECOND, json.dumps(event))
    reason = kept.execution(name)
    assert (reason.source, reason.text) == ("runner report", "gremlins in the agent")
    assert (reason.cause, reason.advice) == (None, advice)
    # The log has nothing but the report.
    assert reason.context == ("polling", "gremlins in the agent")
    assert kept.execution(name) == reason
    assert len(google.named("ListLogEntries")) == 1


def test_of_a_log_that_was_not_read_whole_the_runners_last_lines_are_the_context(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = failed_execution(google)
    event = {"forge_runner": 1, "event": "fatal", "id": "", "line": "gremlins", "tail": ["a", "b"]}
    write_log(google, name, clock.now - 10 * SECOND, "polling", json.dumps(event))
    assert asked.execution(name).context == ("polling",)
    write_log(google, name, clock.now - 40 * SECOND, *["polling"] * 3_100)
    reason = asked.execution(name)
    assert reason.logs == "only the newest 3000 lines"
    assert (reason.context, reason.is_read) == (("a", "b"), True)


def test_a_log_that_cannot_be_read_is_told_by_a_field(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = failed_execution(google)
    assert asked.execution(name).is_read
    google.faults.add(faults.unavailable(), "ListTasks")
    assert not asked.execution(name).is_read
    google.faults.clear()
    google.faults.add(faults.unavailable(), "ListLogEntries")
    reason = asked.execution(name)
    assert not reason.is_read
    assert Reason.from_json(json.loads(json.dumps(reason.as_json()))) == reason
    old = {name: held for name, held in reason.as_json().items() if name != "is_read"}
    assert Reason.from_json(old).is_read


def test_a_cause_behind_the_newest_page_is_found(
    google: FakeGoogle, kept: Asked, clock: HandClock
) -> None:
    name = failed_execution(google)
    write_log(google, name, clock.now - 30 * SECOND, TRACEBACK, *["shutting down"] * 1_100)
    reason = kept.execution(name)
    assert (entry_id(reason), reason.logs) == ("D01", "")
    assert len(reason.context) == CONTEXT_LINES
    # The newest page, then all from the newest on.
    assert len(google.named("ListLogEntries")) == 3


def test_a_spent_budget_is_said_and_nothing_is_kept(
    google: FakeGoogle, kept: Asked, clock: HandClock, diagnoses: DiagnosisStore
) -> None:
    name = failed_execution(google, ended_ago=LONG_AGO)
    for _ in range(20):
        diagnoses.take_read("cloud-logging", LOGGING.per_minute, LOGGING.burst)
    reason = kept.execution(name)
    assert (reason.source, entry_id(reason)) == ("task", "R04")
    assert reason.logs.startswith("not read: throttled")
    assert google.named("ListLogEntries") == []
    assert diagnoses.diagnosis(name) is None


def test_a_429_stops_the_reads_of_all(
    google: FakeGoogle, kept: Asked, diagnoses: DiagnosisStore
) -> None:
    name = failed_execution(google, ended_ago=LONG_AGO)
    google.faults.add(faults.throttled(40), "ListLogEntries", times=1)
    reason = kept.execution(name)
    assert reason.logs.startswith("not read: Quota exceeded")
    assert reason.source in ("condition", "task")
    wait = diagnoses.take_read("cloud-logging", LOGGING.per_minute, LOGGING.burst)
    assert 38 < wait <= 40
    assert diagnoses.diagnosis(name) is None


def test_logs_that_may_not_be_read_leave_what_is_structured(
    google: FakeGoogle, asked: Asked
) -> None:
    name = failed_execution(google, exit_code=2)
    google.faults.add(faults.denied("logging.logEntries.list"), "ListLogEntries")
    reason = asked.execution(name)
    assert (entry_id(reason), reason.is_found) == ("R04", True)
    assert reason.logs.startswith("not read: Permission 'logging.logEntries.list' denied")
    google.faults.add(faults.unavailable(), "ListTasks")
    assert "tasks not read" in asked.execution(name).logs


def test_nothing_is_kept_before_late_lines_had_time(
    google: FakeGoogle, kept: Asked, clock: HandClock, diagnoses: DiagnosisStore
) -> None:
    name = failed_execution(google, exit_code=2)
    assert entry_id(kept.execution(name)) == "R04"
    assert diagnoses.diagnosis(name) is None
    write_log(google, name, clock.now, TRACEBACK)
    clock.forward(30)
    assert entry_id(kept.execution(name)) == "D01"
    assert diagnoses.diagnosis(name) is not None


def test_a_live_runner_is_asked_too_and_never_kept(
    google: FakeGoogle, kept: Asked, clock: HandClock, diagnoses: DiagnosisStore
) -> None:
    failed_execution(google)
    name = google.runs.start("projects/demo/locations/us-central1/jobs/vertex-ai-launcher").name
    clock.forward(10)
    quiet = kept.execution(name)
    assert (quiet.source, quiet.text, quiet.is_found) == ("nothing", "it is RUNNING", False)
    write_log(google, name, clock.now, "wandb: ERROR Queue not found.")
    assert entry_id(kept.execution(name)) == "W04"
    assert diagnoses.diagnosis(name) is None


def test_a_reason_is_the_same_after_the_store(
    google: FakeGoogle, asked: Asked, clock: HandClock
) -> None:
    name = failed_execution(google)
    write_log(google, name, clock.now, TRACEBACK)
    for reason in (asked.execution(name), Reason("nothing", "it is RUNNING")):
        assert Reason.from_json(json.loads(json.dumps(reason.as_json()))) == reason


@pytest.mark.parametrize(
    ("status", "kind", "detail", "expected", "text"),
    [
        ("FAILURE", "PUSH_NOT_AUTHORIZED", "denied", "B02", "denied"),
        ("FAILURE", "USER_BUILD_STEP", "exec format error", "I03", "exec format error"),
        ("TIMEOUT", "", "", "B05", "build status TIMEOUT"),
        ("CANCELLED", "", "", None, "build status CANCELLED"),
        ("WORKING", "", "", None, "it is WORKING"),
    ],
)
def test_builds(status: str, kind: str, detail: str, expected: str | None, text: str) -> None:
    build = Build("b", "global", status, (), 0, 1, NEVER, None, None, kind, detail)
    reason = build_reason(build)
    assert (entry_id(reason), reason.text) == (expected, text)
    assert reason.source == ("nothing" if status == "WORKING" else "build")
