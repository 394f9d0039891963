from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from resources.diagnosis_store import DiagnosisStore
from resources.launch_state import LaunchState
from resources.launch_store import Launch, LaunchStore

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def launches(postgres_engine: sa.Engine) -> LaunchStore:
    return LaunchStore(postgres_engine)


@pytest.fixture
def diagnoses(postgres_engine: sa.Engine) -> DiagnosisStore:
    return DiagnosisStore(postgres_engine)


def begun(launches: LaunchStore, state: LaunchState = "intended", job: str = "train") -> Launch:
    return launches.begin(
        Launch(uuid4(), state, "direct", job, "demo", "us-central1", labels={"a": "b"})
    )


def test_a_launch_is_written_and_found_by_any_of_its_names(launches: LaunchStore) -> None:
    launch = begun(launches)
    assert launch.created_at is not None
    assert launches.launch(launch.id) == launch
    job = "projects/1/locations/us-central1/customJobs/77"
    execution = "projects/demo/locations/us-central1/jobs/r/executions/r-abc"
    assert launches.change(
        launch.id,
        "found",
        {"age": 1.0},
        state="running",
        job_name=job,
        execution=execution,
        wandb_run="x1",
    )
    for name in (launch.id.hex[:8], str(launch.id), job, "77", execution, "r-abc", "x1"):
        assert [found.id for found in launches.named(name)] == [launch.id], name
    assert launches.named("%") == []
    assert launches.named("0" * 32) == []
    assert [event.kind for event in launches.events(launch.id)] == ["intended", "found"]
    assert launches.launch(uuid4()) is None


def test_what_ended_stays_as_it_ended(launches: LaunchStore) -> None:
    launch = begun(launches)
    assert launches.change(launch.id, "ended", state="failed", reason="no quota")
    assert not launches.change(launch.id, "seen", state="running")
    assert launches.change(launch.id, "reported", reported="failed")
    kept = launches.launch(launch.id)
    assert kept is not None
    assert (kept.state, kept.reason, kept.reported, kept.is_over) == (
        "failed",
        "no quota",
        "failed",
        True,
    )


def test_a_reason_may_be_found_after_the_end(launches: LaunchStore) -> None:
    launch = begun(launches)
    launches.change(launch.id, "ended", state="failed")
    assert not launches.change(launch.id, "seen", state="running", reason="no quota")
    assert launches.change(launch.id, "diagnosed", {"source": "log"}, reason="no quota")
    kept = launches.launch(launch.id)
    assert kept is not None
    assert (kept.state, kept.reason) == ("failed", "no quota")


def test_what_dagster_was_not_told_is_told_once_or_again_after_an_error(
    launches: LaunchStore,
) -> None:
    launch = begun(launches)
    assert launches.untold("demo", LONG_AGO) == []
    launches.change(launch.id, "found", state="running")
    with pytest.raises(ConnectionError), launches.telling(launch.id):
        raise ConnectionError
    assert [found.id for found in launches.untold("demo", LONG_AGO)] == [launch.id]
    for _ in range(2):
        with launches.telling(launch.id) as told:
            assert told is not None
    assert told.reported == "running"
    assert launches.untold("demo", LONG_AGO) == []
    assert [event.kind for event in launches.events(launch.id)][1:] == ["found", "reported"]
    with launches.telling(uuid4()) as nothing:
        assert nothing is None


def test_only_a_launch_whose_job_nobody_saw_is_unseen(launches: LaunchStore) -> None:
    assert launches.unseen("demo", "train", LONG_AGO) == []
    first = begun(launches)
    # A later launch that came to nothing does not hide it.
    begun(launches, "rejected")
    assert launches.unseen("demo", "train", LONG_AGO) == [first]
    assert launches.unseen("demo", "other", LONG_AGO) == []
    assert launches.unseen("elsewhere", "train", LONG_AGO) == []
    assert launches.unseen("demo", "train", datetime.now(UTC) + timedelta(hours=1)) == []
    launches.change(first.id, "found", state="queued")
    assert launches.unseen("demo", "train", LONG_AGO) == []
    assert [launch.id for launch in launches.watched("demo", LONG_AGO)] == [first.id]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert launches.watched("demo", tomorrow) == []
    launches.change(first.id, "ended", state="succeeded")
    assert launches.watched("demo", LONG_AGO) == []
    assert [launch.id for launch in launches.recent(1, "elsewhere")] == []


def test_a_request_is_noted_only_for_the_one_who_holds_the_launch(launches: LaunchStore) -> None:
    launch = launches.begin(
        Launch(uuid4(), "intended", "direct", "train", "demo", "us-central1", holder="ada")
    )
    assert launches.last_sent(launch.id) is None
    assert launches.sending(launch.id, "ada", "create_sent", {"image": "a"})
    sent = launches.last_sent(launch.id)
    assert sent is not None
    assert launch.created_at is not None
    assert sent >= launch.created_at
    launches.change(launch.id, "taken_up", state="intended", holder="bob")
    assert not launches.sending(launch.id, "ada", "create_sent")
    launches.change(launch.id, "found", state="running")
    assert not launches.sending(launch.id, "bob", "create_sent")
    kinds = [event.kind for event in launches.events(launch.id)]
    assert kinds.count("create_sent") == 1


def test_a_launch_is_found_by_the_name_that_people_see(launches: LaunchStore) -> None:
    launch = begun(launches)
    shown = f"train-{launch.id.hex[:8]}"
    assert [found.id for found in launches.named(shown, "demo")] == [launch.id]
    assert launches.named(f"other-{launch.id.hex[:8]}", "demo") == []
    assert launches.named(shown, "elsewhere") == []


def test_a_state_that_nobody_knows_is_refused(launches: LaunchStore) -> None:
    launch = begun(launches)
    with pytest.raises(sa.exc.IntegrityError):
        launches.change(launch.id, "seen", state="exploded")


def test_all_processes_share_one_budget(
    diagnoses: DiagnosisStore, postgres_engine: sa.Engine
) -> None:
    other = DiagnosisStore(postgres_engine)
    assert [store.take_read("logs", 6, 2) for store in (diagnoses, other)] == [0.0, 0.0]
    assert 9 < other.take_read("logs", 6, 2) <= 10
    assert diagnoses.take_read("elsewhere", 6, 2) == 0.0


def test_a_pause_stops_the_reads_of_all(
    diagnoses: DiagnosisStore, postgres_engine: sa.Engine
) -> None:
    diagnoses.pause_reads("logs", 60, 20, 30)
    assert 29 < DiagnosisStore(postgres_engine).take_read("logs", 60, 20) <= 30


def test_the_first_diagnosis_stays(diagnoses: DiagnosisStore) -> None:
    assert diagnoses.diagnosis("executions/r-1") is None
    diagnoses.keep_diagnosis("executions/r-1", {"class": "quota", "tail": ["a\0b"]})
    diagnoses.keep_diagnosis("executions/r-1", {"class": "other"})
    assert diagnoses.diagnosis("executions/r-1") == {"class": "quota", "tail": ["a\ufffdb"]}
