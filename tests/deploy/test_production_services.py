"""The services of the units together: a run in their queue, its log in the bucket, a restart beneath it."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.chat_server import ChatServer, Reply
from tests.deploy.box import Box
from tests.pipeline.project import ROOT, Project, step, texts
from tests.wire import storage

ASSETS = ["subjects", "review/gate", "review/draft", "review/results"]
SUBJECTS = 6
BUCKET = "team-logs"


@pytest.fixture(scope="module")
def bucket() -> Iterator[storage.Emulator]:
    with storage.emulator() as made:
        made.add(BUCKET)
        yield made


@pytest.fixture(scope="module")
def chat_server() -> Iterator[ChatServer]:
    """It keeps the last subject waiting until the run that asks first is over."""
    last = texts(SUBJECTS)[-1]["text"]
    with ChatServer({last: [Reply(seconds=600), Reply()]}) as server:
        yield server


@pytest.fixture(scope="module")
def box(
    module_project: Project,
    chat_server: ChatServer,
    bucket: storage.Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Box]:
    project = module_project
    project.stages = {"canary-10": SUBJECTS, "ramp-50": 1}
    model = {"engine": "openai_http", "source": "echo", "url": chat_server.url}
    project.configure(models={"small": model, "other": model})
    project.write_subjects(texts(SUBJECTS + 1))
    project.write_workflow([step("draft", "{text}")])
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").symlink_to(ROOT / "deploy" / "gcp" / "dagster.yaml")
    made = Box(project, home, FORGE_LOG_BUCKET=BUCKET, **bucket.environment)
    yield made
    made.close()


@pytest.fixture(scope="module")
def restarted(box: Box) -> dict[str, str]:
    """A run whose service is restarted while it works. Run -> status when all is over."""
    project = box.project
    run = box.launch("canary-10", ASSETS)
    done = SUBJECTS - 1
    box.code.until(lambda: project.counts().get("completed", 0) == done, f"{done} interactions")
    # New definitions are loaded beneath a living run, too.
    project.write_workflow([step("other", "Say no: {text}")], name="second")
    box.reload()
    assert "second/results" in box.assets()
    assert project.dagster_runs() == {run: "STARTED"}
    assert box.stop() == 0, box.code.text
    # The run has handed back what it held before its process ended.
    assert project.counts() == {"completed": done, "pending": 1}
    assert project.dagster_runs()[run] == "FAILURE"
    box.start_again()

    def over() -> bool:
        statuses = project.dagster_runs()
        return len(statuses) == 2 and not set(statuses.values()) - {"SUCCESS", "FAILURE"}

    box.daemon.until(over, "the end of a second run")
    return project.dagster_runs()


def test_an_interrupted_run_goes_on_by_itself_when_its_service_is_back(
    restarted: dict[str, str], box: Box
) -> None:
    assert list(restarted.values()) == ["FAILURE", "SUCCESS"]
    assert box.project.counts() == {"completed": SUBJECTS}
    assert box.project.stage("canary-10")["verdict"] == "passed"


def test_nothing_was_made_twice(restarted: dict[str, str], box: Box) -> None:
    made = box.project.scalar(
        "SELECT count(*) FROM forge.interaction_events WHERE kind = 'completed'"
    )
    assert made == SUBJECTS


def test_a_log_is_in_the_bucket_and_that_of_the_interrupted_run_on_the_host(
    restarted: dict[str, str],
    box: Box,
    bucket: storage.Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bucket is asked as from another host, which has nothing else."""
    (tmp_path / "dagster.yaml").symlink_to(ROOT / "deploy" / "gcp" / "dagster.yaml")
    given = bucket.environment | {"FORGE_LOG_BUCKET": BUCKET, "DAGSTER_HOME": str(tmp_path)}
    given["FORGE_DATABASE_URL"] = box.project.url
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    interrupted, whole = restarted
    with dg.DagsterInstance.get() as instance:
        said = instance.compute_log_manager.get_log_data(log_key(instance, whole)).stderr
        *folders, name = log_key(instance, interrupted)
    assert said
    assert b"Finished execution of step" in said
    home = Path(box.project.environment["DAGSTER_HOME"])
    assert home.joinpath(*folders, f"{name}.err").read_bytes()


def log_key(instance: dg.DagsterInstance, run: str) -> list[str]:
    """Of the one log that the steps of a run have, since they share a process."""
    (record,) = instance.get_records_for_run(run, of_type=dg.DagsterEventType.LOGS_CAPTURED).records
    event = record.event_log_entry.get_dagster_event()
    return [run, "compute_logs", event.logs_captured_data.file_key]
