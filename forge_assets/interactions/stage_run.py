"""One run of one stage: enter by the gate, plan, do the wave, leave. Thin assets call this."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from forge_assets.interactions import presence
from forge_assets.interactions.clerk import Tally, WorkOrder, patiently
from forge_assets.interactions.engine_choice import EngineChooser
from forge_assets.interactions.ingest import check_fields, ingest_subjects
from forge_assets.interactions.inputs import wait_for_server
from forge_assets.interactions.machine_limits import limits_of
from forge_assets.interactions.progress import Progress
from forge_assets.interactions.stage_crew import Share, StageCrew, shares, worker_count
from forge_assets.interactions.stage_gate import StageGate
from forge_assets.interactions.stage_models import StageModels
from forge_assets.interactions.wave import WaveOutcome
from forge_assets.project import WorkflowPlan, naming_forge_yaml
from forge_assets.stages import Stage
from forge_assets.workflow.plan import advance
from forge_assets.workflow.spec import Step
from resources.errors import ForgeError, InfrastructureError, Refusal
from resources.gpu.resource import GpuResource
from resources.interaction_store import EndState, InteractionStore, OpenWork, PlanReport, StageScope
from resources.locks import LockSpace, SessionLock
from resources.machine import Criterion, Limits, Monitor, criteria, take_sample

_POLL_SECONDS = 1.0
_SAY_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Limited:
    """What ``--max-subjects`` and ``--max-interactions`` leave of a stage."""

    max_subjects: int | None = None
    max_interactions: int | None = None

    def __bool__(self) -> bool:
        return self.max_subjects is not None or self.max_interactions is not None


@dataclass(frozen=True)
class StageRun:
    """Everything that one run needs to work on one stage of one workflow."""

    plan: WorkflowPlan
    stage: Stage
    engine: sa.Engine
    store: InteractionStore
    instance: dg.DagsterInstance
    run_id: str
    say: Callable[[str], None]

    @property
    def scope(self) -> StageScope:
        return self.plan.project.scope(self.plan.workflow, self.stage)

    @cached_property
    def gate(self) -> StageGate:
        return StageGate(
            self.plan, self.stage, self.engine, self.store, self.instance, self.run_id, self.say
        )

    # before the wave

    def enter(self) -> bool:
        """Returns when the stage may run; Refusal says why it may not.

        False when there is nothing to do: a stage without subjects, in a backfill.
        """
        patiently(self._have_subjects)
        if patiently(self.gate.is_left_out):
            self.say(f"{self.stage.key} holds no subjects yet: nothing to do in this backfill")
            return False
        patiently(lambda: presence.announce_run(self.engine, self.store, self.run_id, self.scope))
        self._wait(self.gate.reason_to_wait, "gate")
        self._check_machine()
        return True

    def _have_subjects(self) -> None:
        project = self.plan.project
        if not self.store.subject_count(project.config.dataset):
            ingest_subjects(project, self.store, self.say)
        check_fields(self.plan.workflow, self.store.field_names(project.config.dataset))

    def _wait(self, reason_to_wait: Callable[[], str | None], what: str) -> None:
        patience = self.plan.project.config.gate_wait
        started = time.monotonic()
        say_next = started
        while (reason := patiently(reason_to_wait)) is not None:
            now = time.monotonic()
            if now - started > patience:
                raise Refusal(f"gave up at the {what} after {patience:.0f} s (gate_wait): {reason}")
            if now >= say_next:
                self.say(reason)
                say_next = now + _SAY_EVERY_SECONDS
            time.sleep(_POLL_SECONDS)

    def _check_machine(self) -> None:
        broken = [found for found in self.machine() if found.status == "no_go"]
        if broken:
            details = "; ".join(f"{found.name}: {found.detail}" for found in broken)
            raise Refusal(f"{self.stage.key} refused: {details}")

    def machine(self) -> list[Criterion]:
        """The machine's state now against the limits of forge.yaml."""
        return criteria(take_sample(self.engine), self.limits, self._gpu_configured)

    @property
    def _gpu_configured(self) -> bool:
        models = self.plan.project.config.models
        return any(models[key].device.startswith("cuda") for key in self.plan.models)

    @property
    def limits(self) -> Limits:
        return limits_of(self.plan.project.config)

    def leave(self, state: EndState, reason: str | None = None) -> None:
        """Ends the run: finished, cut_short or failed. Only the first call counts."""
        self.store.end_run(self.run_id, self.scope, state, reason)

    # the wave

    @cached_property
    def _chooser(self) -> EngineChooser:
        return EngineChooser(self.plan, self.stage, self.store)

    def work(
        self, steps: frozenset[str], limited: Limited, gpu: GpuResource, workers: int | None = None
    ) -> WaveOutcome:
        """Does the selected steps of the stage. Refusal when their parents are unfinished.

        ``workers`` None: as the stage says, else the default.
        """
        self._have_weights(steps, gpu)
        planned = patiently(self._plan)
        if planned.superseded:
            self.say(
                f"{self.stage.key}: {planned.superseded} interactions are made anew, since their step,"
                " a step before it or their subject has changed; all others stay"
            )
        order = patiently(lambda: self._order(steps, limited))
        if not patiently(lambda: self._open_work(order)).total:
            self.say(f"{self.stage.key}: nothing to generate, every selected interaction has ended")
            return WaveOutcome(Tally(), halted=None)
        with self._device(steps, gpu) as locks:
            monitor = Monitor(
                self.engine,
                self.limits,
                self.run_id,
                self.store.add_samples,
                gpu_configured=self._gpu_configured,
            )
            with monitor:
                models = StageModels(self.plan, self.store, order, gpu, self._chooser, self.say)
                crew = self._crew(order, models, monitor, locks)
                try:
                    outcome = crew.work(self._shares(steps, workers))
                except BaseException:
                    with suppress(SQLAlchemyError, ForgeError):
                        models.close(patience=0.0)
                    raise
                models.close()
                return replace(outcome, cache=models.counters().as_json())

    def name_left_out(self, steps: frozenset[str]) -> None:
        """Says which steps a run with results does not do: often it was started from an old graph."""
        left_out = [step.name for step in self.plan.ordered if step.name not in steps]
        if left_out:
            self.say(
                f"{self.stage.key}: this run leaves out {', '.join(left_out)}; after an edit of the"
                " workflow reload the code location, then its steps can be selected"
            )

    def _plan(self) -> PlanReport:
        return self.store.plan_stage(
            self.scope,
            self.plan.steps,
            advance=lambda states: advance(self.plan.workflow, states),
        )

    def _order(self, steps: frozenset[str], limited: Limited) -> WorkOrder:
        self._parents_are_finished(steps)
        return WorkOrder(
            self.scope,
            self.plan.workflow,
            self.run_id,
            steps,
            self.plan.versions,
            subject_ids=self._subjects(limited),
            max_interactions=limited.max_interactions,
            earlier_lengths=self._chooser.lengths(),
            earlier_times=self.store.slow_answers(self.scope),
        )

    def _shares(self, steps: frozenset[str], workers: int | None) -> list[Share]:
        found = shares(self.plan, steps, worker_count(self.stage, workers))
        if workers is not None and workers > len(found):
            self.say(
                f"{self.stage.key}: 1 worker, not {workers}: the models run on this machine, and a"
                " device does one batch at a time"
            )
        return found

    def unfinished(self) -> int:
        """Interactions of the stage that have not ended."""
        return self.store.open_work(self.scope).total

    def _open_work(self, order: WorkOrder) -> OpenWork:
        return self.store.open_work(order.scope, order.steps, order.subject_ids)

    def _subjects(self, limited: Limited) -> frozenset[int] | None:
        if limited.max_subjects is None:
            return None
        return frozenset(self.store.unfinished_subject_ids(self.scope, limited.max_subjects))

    def _parents_are_finished(self, steps: frozenset[str]) -> None:
        parents = {need for step in self.plan.ordered if step.name in steps for need in step.needs}
        unfinished = self.store.unfinished_parents(self.scope, parents - steps)
        if unfinished:
            named = ", ".join(f"{name} ({count})" for name, count in sorted(unfinished.items()))
            raise Refusal(
                f"{self.stage.key}: the selected steps need others that are unfinished: {named};"
                " select these too"
            )

    def _have_weights(self, steps: frozenset[str], gpu: GpuResource) -> None:
        """Makes them where the selection left the asset out, before anything is planned.

        Asks the servers of the other models: nobody should wait for a device to hear that one is down.
        """
        config = self.plan.project.config
        with naming_forge_yaml(config):
            for step in self._run_here(steps):
                gpu.ensure_weights(step.model, config.models[step.model])
        selected = [step.model for step in self.plan.ordered if step.name in steps]
        for model in dict.fromkeys(selected):
            if config.models[model].served:
                wait_for_server(self.plan.project, model)

    def _run_here(self, steps: frozenset[str]) -> list[Step]:
        """Those of the steps whose models no server holds."""
        models = self.plan.project.config.models
        return [
            step
            for step in self.plan.ordered
            if step.name in steps and not models[step.model].served
        ]

    def _crew(
        self, order: WorkOrder, models: StageModels, monitor: Monitor, locks: list[SessionLock]
    ) -> StageCrew:
        return StageCrew(
            self.store,
            order,
            models,
            Progress(self.stage.key, self._open_work(order).total, self.say),
            self.say,
            heartbeat=lambda: self._heartbeat(locks),
            breach=monitor.breach,
            reclaim_dead=self.gate.bury_dead,
            group_wait=self.plan.project.config.group_wait,
        )

    def _heartbeat(self, locks: list[SessionLock]) -> None:
        """Takes the locks again after their connections were cut, for as long as nobody else did."""
        if self.store.planned_otherwise(self.scope, self.plan.versions):
            raise Refusal(
                f"{self.stage.key} stopped: another run has planned it by a workflow that was changed"
                " since; what is as it was stays, and that run does the rest"
            )
        if not all(lock.try_acquire() for lock in locks):
            raise InfrastructureError(
                f"{self.stage.key} stopped: while the database was away another run took the device;"
                " everything committed is kept, run the same command again"
            )

    @contextmanager
    def _device(self, steps: frozenset[str], gpu: GpuResource) -> Iterator[list[SessionLock]]:
        """Holds the lock of every device that the steps use: one engine at a time on a device.

        None for models at a server.
        """
        models = self.plan.project.config.models
        selected = self._run_here(steps)
        devices = sorted({gpu.device(models[step.model]) for step in selected})
        if any(step.output.structured for step in selected):
            gpu.import_grammars()
        locks = [
            SessionLock(self.engine, LockSpace.DEVICE, f"{socket.gethostname()}/{device}")
            for device in devices
        ]
        try:
            self._wait(partial(self._not_yet, locks, devices), "device")
            yield locks
        finally:
            for lock in locks:
                lock.release()

    def _not_yet(self, locks: list[SessionLock], devices: list[str]) -> str | None:
        """None once every device is ours and the gate still open; else nothing is held.

        The gate is asked again, since another run may have had the device for hours. To wait for a
        stage while holding the device that it needs would be a deadlock.
        """
        reason = None
        for lock, device in zip(locks, devices, strict=True):
            if not lock.try_acquire():
                reason = f"{self.stage.key} waits for {device}, which another run is using"
                break
        try:
            reason = reason or self.gate.reason_to_wait()
        finally:
            if reason is not None:
                for lock in locks:
                    lock.release()
        return reason
