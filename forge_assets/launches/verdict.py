"""From what was seen to a result: outcome, reason in the API's own words, advice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from forge_assets.cloud_config import JobSpec
from forge_assets.launches.catalogue import classify
from forge_assets.launches.clouds import Clouds
from forge_assets.launches.confirm import Seen
from forge_assets.launches.outcome import GOOD, OF_STATE, Hop, LaunchResult
from forge_assets.launches.region_advice import HISTORY, where_else
from forge_assets.launches.submit import OutcomeUnknown
from resources.cloud.errors import CloudError
from resources.cloud.resource_name import short
from resources.cloud.vertex import Job
from resources.diagnosis_store import DiagnosisStore
from resources.launch_state import Outcome
from resources.launch_store import Launch, LaunchStore

if TYPE_CHECKING:
    from resources.cloud.cloud_run import Execution

REASON_SECONDS = 1.5
"""For the logs of a runner that died: its end is told with or without them."""


@dataclass(frozen=True, slots=True)
class Under:
    """The launch that is judged; ``goes_on``: it was begun by an earlier command; ``elapsed``: its
    seconds until now; ``holds_lease``: asked before anything is sent."""

    launch: Launch
    goes_on: bool
    spec: JobSpec
    clouds: Clouds
    launches: LaunchStore
    diagnoses: DiagnosisStore
    now: Callable[[], datetime]
    elapsed: Callable[[], float]
    holds_lease: Callable[[], bool]
    holder: str

    def sending(self, kind: str, **detail: Any) -> None:
        """Note the request that goes out next. OutcomeUnknown when the launch is not ours any more."""
        mine = self.holds_lease() and self.launches.sending(
            self.launch.id, self.holder, kind, detail
        )
        if not mine:
            raise OutcomeUnknown(
                "the lease was lost, the database was away; another launch may have gone on with it"
            )

    def result(self, outcome: Outcome, **known: Any) -> LaunchResult:
        launch = self.launch
        return LaunchResult(
            launch=launch.id,
            job=launch.job,
            path=launch.path,
            project=launch.project,
            region=launch.region,
            outcome=outcome,
            seconds=self.elapsed(),
            **known,
        )

    def refused(self, error: CloudError, **known: Any) -> LaunchResult:
        """Of a request that the API did not take."""
        return self.result("rejected", reason=str(error), **self._explained(str(error)), **known)

    def found(self, jobs: Sequence[Job], **known: Any) -> LaunchResult:
        """Of jobs that carry the launch's label; more than one is one too many."""
        job = min(jobs, key=lambda each: (each.created, each.name))
        outcome = OF_STATE.get(job.state, "unknown")
        reason = job.error
        if outcome == "unknown":
            reason = reason or f"Vertex AI says {job.state}, a state that is none of the known"
        elif outcome not in GOOD:
            reason = reason or "Vertex AI gives no message yet"
        if outcome == "queued":
            known["advice"] = self._where_else("quota_wait")
        elif reason:
            known |= self._explained(reason)
        return self.result(
            outcome,
            job_name=job.name,
            job_state=job.state,
            age=max(0.0, (self.now() - job.created).total_seconds()),
            reason=reason,
            duplicates=[each.name for each in jobs if each is not job],
            **known,
        )

    def runner_refused(self, error: CloudError) -> LaunchResult:
        """Of a runner that could not be had."""
        return self.result("runner_failed", reason=str(error), **self._explained(str(error)))

    def runner_failed(self, runner: "Execution", **known: Any) -> LaunchResult:
        return self.result("runner_failed", **self._reason(runner), **known)

    def item_failed(self, runner: "Execution | None", **known: Any) -> LaunchResult:
        """Of an item that the agent gave up: why stands in the agent's log."""
        if runner is None:
            reason = "the agent gave the queue's item up; its own log says why"
            return self.result("rejected", reason=reason, **known)
        return self.result("rejected", **self._reason(runner), **known)

    def no_job(self, seen: Seen) -> str:
        said = seen.said.get("job")
        return f"the last look for the job failed: {said}" if said else "Vertex AI lists no job"

    def _reason(self, execution: "Execution") -> dict[str, Any]:
        from forge_assets.launches.reasons import execution_reason

        found = execution_reason(self.clouds, self.diagnoses, execution, REASON_SECONDS, self.now())
        if found.cause is None:
            advice = f"forge diagnose {short(execution.name)} reads all its logs"
            return {"reason": found.text, "advice": (advice,)}
        entry = found.cause.entry
        return {
            "reason": found.text,
            "error_class": entry.error_class,
            "advice": self._advice(entry.error_class, entry.advice),
        }

    def _explained(self, text: str) -> dict[str, Any]:
        """Class and advice of the catalogue for an API's message."""
        cause = classify(text)
        if cause is None:
            return {}
        entry = cause.entry
        return {
            "error_class": entry.error_class,
            "advice": self._advice(entry.error_class, entry.advice),
        }

    def _advice(self, error_class: str, advice: str) -> Sequence[str]:
        return (advice, *self._where_else(error_class))

    def _where_else(self, error_class: str) -> Sequence[str]:
        return where_else(
            error_class,
            self.spec,
            self.launch.region,
            self.clouds.config.regions,
            self.now(),
            self.launches.recent(HISTORY, self.clouds.project),
        )


def hops(seen: Seen, item: str, runner: str) -> Sequence[Hop]:
    """What was last known of every station, also of one that could not be looked at."""

    def state(hop: str, known: str) -> str:
        said = seen.said.get(hop)
        return f"{known}; the last look failed: {said}" if said else known

    found: list[Hop] = []
    if item:
        known = seen.item.state if seen.item else "not seen"
        found.append(Hop("queue item", item, state("queue item", known)))
    if runner:
        known = seen.execution.state if seen.execution else "not seen"
        found.append(Hop("runner", runner, state("runner", known)))
    run = seen.item.run if seen.item else None
    job = seen.jobs[0] if seen.jobs else None
    found.append(
        Hop("job", job.name if job else "", state("job", job.state if job else "none found"))
    )
    if item:
        found.append(Hop("W&B run", run or "", "begun by an agent" if run else "not begun"))
    return found
