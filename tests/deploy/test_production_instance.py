"""The dagster.yaml of deploy/: loaded as an instance on real PostgreSQL, with logs in the GCS emulator."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG
from dagster._core.utils import make_new_run_id
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry
from dagster_shared.check import CheckError

from resources.dagster_storage import is_forge_instance
from tests.pipeline.project import ROOT
from tests.wire import storage
from tests.wire.storage import Emulator

BUCKET = "team-logs"
HOMES = pytest.mark.parametrize("name", ["host", "gcp"])
KEY = ["some-run", "compute_logs", "some-step"]
# A compute log as a run's process captures it, on the instance of DAGSTER_HOME.
CAPTURE = """
import sys
import dagster as dg
with dg.DagsterInstance.get() as instance:
    with instance.compute_log_manager.capture_logs(sys.argv[1:]):
        print("seven loads", flush=True)
        print("one warning", file=sys.stderr, flush=True)
"""


def path_of(name: str) -> Path:
    return ROOT / "deploy" / name / "dagster.yaml"


def content(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load(path_of(name).read_text()))


@pytest.fixture
def bucket() -> Iterator[Emulator]:
    with storage.emulator() as made:
        made.add(BUCKET)
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """As the units and the image make them: a link in a folder of its own; and one of another host."""
    for folder, name in (("host", "host"), ("gcp", "gcp"), ("elsewhere", "gcp")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dagster.yaml").symlink_to(path_of(name))
    return tmp_path


@pytest.fixture
def production(
    bucket: Emulator, home: Path, ready_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The homes, with the environment that they need."""
    monkeypatch.setenv("FORGE_DATABASE_URL", ready_postgres_url)
    monkeypatch.setenv("FORGE_LOG_BUCKET", BUCKET)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return home


@contextmanager
def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    with dg.DagsterInstance.get() as instance:
        yield instance


def capture() -> None:
    """A log of two lines, written by a process on the instance of DAGSTER_HOME."""
    command = [sys.executable, "-c", CAPTURE, *KEY]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True)


def without_logs(name: str) -> dict[str, Any]:
    return {key: value for key, value in content(name).items() if key != "compute_logs"}


def test_the_two_differ_in_the_place_of_compute_logs_alone() -> None:
    assert without_logs("host") == without_logs("gcp") == content("host")


def test_no_pools_are_configured() -> None:
    assert "pools" not in content("host")["concurrency"]


@HOMES
def test_it_is_loaded_with_what_it_says(
    name: str, production: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(production / name, monkeypatch) as instance:
        assert is_forge_instance(instance)
        assert instance.telemetry_enabled is False
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_start_timeout_seconds == 300
        assert instance.run_monitoring_cancel_timeout_seconds == 180
        # Nothing ends a run for its length.
        assert instance.run_monitoring_max_runtime_seconds <= 0
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 1)
        assert instance.run_retries_retry_on_asset_or_op_failure is False
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 4
        waits = queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay
        assert waits == 600
        for kind in ("sensors", "schedules", "backfills"):
            assert instance.get_settings(kind)["use_threads"] is True
        assert Path(instance.storage_directory()).is_relative_to(production / name)


@HOMES
def test_ticks_are_not_kept_for_ever(
    name: str, production: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(production / name, monkeypatch) as instance:
        for kind in InstigatorType:
            kept = instance.get_tick_retention_settings(kind)
            assert set(kept) == set(TickStatus)
            # "Started" ticks are those at work, which nobody purges.
            days = {status.value: number for status, number in kept.items()}
            assert all(days[end] > 0 for end in ("SKIPPED", "SUCCESS", "FAILURE")), (kind, days)


def test_a_run_is_begun_again_when_its_process_died_and_not_when_a_step_failed(
    production: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Dagster's daemon asks itself of a failed run."""
    verdicts = {}
    with loaded(production / "host", monkeypatch) as instance:
        for reason in ("UNKNOWN", "STEP_FAILURE"):
            tags = {RUN_FAILURE_REASON_TAG: reason}
            run = dg.DagsterRun(
                "job", make_new_run_id(), status=dg.DagsterRunStatus.FAILURE, tags=tags
            )
            verdicts[reason] = should_retry(instance.add_run(run), instance)
    assert verdicts == {"UNKNOWN": True, "STEP_FAILURE": False}


def test_a_compute_log_goes_to_the_bucket_and_comes_back(
    production: Path, bucket: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(production / "gcp"))
    capture()
    assert not Path("/tmp", KEY[0]).exists()
    with loaded(production / "elsewhere", monkeypatch) as instance:
        manager = instance.compute_log_manager
        for stream in ComputeIOType:
            assert manager.cloud_storage_has_logs(KEY, stream)
        read = manager.get_log_data(KEY)
        assert (read.stdout, read.stderr) == (b"seven loads\n", b"one warning\n")
        place = manager.display_path_for_type(KEY, ComputeIOType.STDOUT)
        assert place == f"gs://{BUCKET}/forge-assets/storage/{'/'.join(KEY)}.out"
        assert manager.upload_interval == 30


def test_compute_logs_on_a_host_lie_in_the_home(
    production: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(production / "host"))
    capture()
    (log,) = (production / "host").rglob("*.out")
    assert log.read_bytes() == b"seven loads\n"


def test_without_the_bucket_no_log_can_be_written(
    production: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the file is for production alone."""
    monkeypatch.setenv("FORGE_LOG_BUCKET", "another-bucket")
    with (
        loaded(production / "gcp", monkeypatch) as instance,
        pytest.raises(CheckError, match="Invariant failed"),
    ):
        _ = instance.compute_log_manager


def test_without_its_variable_it_is_told_which(
    production: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORGE_LOG_BUCKET")
    with (
        loaded(production / "gcp", monkeypatch) as instance,
        pytest.raises(DagsterInvalidConfigError, match="FORGE_LOG_BUCKET"),
    ):
        _ = instance.compute_log_manager
