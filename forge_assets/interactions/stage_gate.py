"""The gate of a run of a stage: who works on the stage before, whether to wait, when to give way."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.tags import BACKFILL_ID_TAG

from forge_assets.gate import Decision, Refuse, RunLiveness, Wait, evaluate_gate
from forge_assets.interactions import dagster_runs, presence, run_queue
from forge_assets.project import WorkflowPlan
from forge_assets.stages import Stage, previous_stage
from resources.errors import Refusal
from resources.interaction_store import InteractionStore, StageScope
from resources.stage_counts import StageCounts
from resources.worker_ids import run_of


@dataclass(frozen=True)
class StageGate:
    """What ``forge_assets.gate`` decides by, read from the store, the locks and Dagster's records."""

    plan: WorkflowPlan
    stage: Stage
    engine: sa.Engine
    store: InteractionStore
    instance: dg.DagsterInstance
    run_id: str
    say: Callable[[str], None]

    def decide(self, subjects: int | None = None) -> Decision:
        """Whether the stage may run, from the counts in the store and the runs that live.

        ``subjects`` stands in for those of the stage that are not ingested yet.
        """
        project = self.plan.project
        self.store.sync_stages(project.config.dataset, project.stage_ranges)
        before = previous_stage(project.stages, self.stage)
        # The runs before the counts: a run that ends in between has written what is counted then.
        runs = self._liveness(before) if before else RunLiveness()
        counts = self.counts()
        if subjects is not None:
            counts[self.stage.key] = replace(counts[self.stage.key], subjects=subjects)
        return evaluate_gate(
            counts[self.stage.key],
            counts[before.key] if before else None,
            runs,
            project.config.thresholds,
            self.plan.workflow_option,
        )

    def is_left_out(self) -> bool:
        """A stage without subjects in a backfill: whoever chose all partitions did not mean this one.

        Without a backfill it is refused.
        """
        run = self.instance.get_run_by_id(self.run_id)
        if run is None or BACKFILL_ID_TAG not in run.tags:
            return False
        self.store.sync_stages(self.plan.project.config.dataset, self.plan.project.stage_ranges)
        return not self.counts()[self.stage.key].subjects

    def reason_to_wait(self) -> str | None:
        """None when the gate is open, the reason to wait, or Refusal."""
        self._refuse_when_stopped()
        self.bury_dead()
        decision = self.decide()
        if isinstance(decision, Refuse):
            # A run that gave way in between was neither seen at work nor in the queue.
            decision = self.decide()
        if isinstance(decision, Refuse):
            raise Refusal(decision.reason)
        if not isinstance(decision, Wait):
            return None
        if decision.for_queued is not None:
            return self._perhaps_give_way(decision.for_queued, decision.reason)
        return decision.reason

    def _refuse_when_stopped(self) -> None:
        """A run of several workflows has several gates: when one gives way, the others end too."""
        run = self.instance.get_run_by_id(self.run_id)
        if run is not None and run.status in (
            dg.DagsterRunStatus.CANCELING,
            dg.DagsterRunStatus.CANCELED,
        ):
            raise Refusal(f"{self.stage.key} stopped: run {self.run_id} was cancelled")

    def _perhaps_give_way(self, queued: str, reason: str) -> str:
        """Frees this run's slot when the run that it waits for cannot start otherwise; else the reason
        to wait."""
        if run_queue.no_slot_is_free(self.instance):
            reason = f"{reason} and no run slot is free"
        elif run_queue.does_not_start_beside(self.instance, self.run_id, queued):
            reason = f"{reason} and does not start beside this one"
        else:
            return reason
        project = self.plan.project
        positions = {stage.key: position for position, stage in enumerate(project.stages)}
        names = [workflow.name for workflow in project.workflows]
        again = run_queue.give_way(self.instance, self.run_id, queued, reason, positions, names)
        if again is not None:
            raise Refusal(f"{reason}: gave way, queued again as run {again}")
        # A run of the terminal counts against the limits as well, and nobody would start it again.
        return f"{reason}; this run has a place too: end it if no other one ends"

    def _liveness(self, stage: Stage) -> RunLiveness:
        """What is known of the runs of another stage."""
        scope = self.plan.project.scope(self.plan.workflow, stage)
        workflow = self.plan.workflow.name
        # In the order in which a run goes through them, lest it slip from one to the next unseen.
        promised = run_queue.promised_by(self.instance, stage.key, workflow)
        queued = dagster_runs.queued_run(self.instance, stage.key, workflow)
        starting = dagster_runs.starting_run(self.instance, stage.key, workflow)
        alive, _ = presence.running_runs(self.engine, self.store, scope)
        return RunLiveness(
            working=run_of(alive[0].run_id) if alive else starting,
            queued=queued,
            promised=promised,
            daemon_alive=dagster_runs.daemon_is_alive(self.instance),
            asked_for=bool(self.store.runs(scope)),
        )

    def counts(self) -> dict[str, StageCounts]:
        """Of this stage and the one before, by partition key."""
        scopes = self._scopes_to_watch()
        rows = self.store.stage_counts(
            self.plan.project.config.dataset,
            self.plan.workflow.name,
            self.plan.versions,
            partitions=[scope.partition for scope in scopes],
        )
        return {row.partition: row for row in rows}

    def bury_dead(self) -> int:
        """Ends runs of this stage, and of the one before, whose process is gone."""
        names = [workflow.name for workflow in self.plan.project.workflows]
        lives = partial(presence.lives, self.engine, self.store)
        dagster_runs.fail_dead_runs(self.instance, names, lives, self.say)
        buried = 0
        for scope in self._scopes_to_watch():
            buried += presence.bury_dead_runs(
                self.engine,
                self.store,
                scope,
                lambda run_id: dagster_runs.fail_run(self.instance, run_id, self.say),
            )
        return buried

    def _scopes_to_watch(self) -> list[StageScope]:
        project, workflow = self.plan.project, self.plan.workflow
        before = previous_stage(project.stages, self.stage)
        stages = [self.stage] if before is None else [before, self.stage]
        return [project.scope(workflow, stage) for stage in stages]
