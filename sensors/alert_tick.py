"""What the ticks of the alert sensors share: runs that ended, told once, and how a tick ends."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING

import dagster as dg

from forge_assets.alerts.message import EndedRun
from forge_assets.alerts_config import AlertsConfig
from forge_assets.project import Project
from resources.cloud.regions import utc_now
from sensors.run_ends import EndCursor

if TYPE_CHECKING:
    from forge_assets.alerts.notifier import Send
    from resources.alert import Message
    from resources.alert_store import AlertStore
    from resources.failed_launches import FailedLaunches

INTERVAL_SECONDS = 30


@dataclass(frozen=True)
class AlertTools:
    """Of one process. Nothing is opened before the first tick. ``workflows``: their names."""

    config: AlertsConfig
    workflows: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    now: Callable[[], datetime] = utc_now
    interval: int = INTERVAL_SECONDS

    @cached_property
    def alerts(self) -> "AlertStore":
        from resources.alert_store import AlertStore
        from resources.database import open_engine

        return AlertStore(open_engine())

    @cached_property
    def launches(self) -> "FailedLaunches":
        from resources.database import open_engine
        from resources.failed_launches import FailedLaunches

        return FailedLaunches(open_engine())

    @cached_property
    def send(self) -> "Send":
        from forge_assets.alerts.notifier import AppriseNotifier

        return AppriseNotifier(self.environment)

    def bury_dead_runs(self, context: dg.SensorEvaluationContext) -> None:
        """Marks runs failed whose process ended without a word: after a kill, or a restart of the host.

        Dagster's run monitoring cannot ask after them, and each would keep its slot of the queue for
        ever; what they had in work goes back when the next run of their stage begins.
        """
        from forge_assets.interactions.dagster_runs import fail_dead_runs
        from forge_assets.interactions.presence import lives
        from resources.database import open_engine
        from resources.interaction_store import InteractionStore

        engine = open_engine()
        living = partial(lives, engine, InteractionStore(engine))
        fail_dead_runs(context.instance, self.workflows, living, context.log.warning)

    def read(self, context: dg.SensorEvaluationContext, run_ids: Sequence[str]) -> list[EndedRun]:
        """Those that Dagster still keeps and that nobody stopped."""
        found = [self._read(context, run_id) for run_id in run_ids]
        return [run for run in found if run is not None and not run.interrupted]

    def _read(self, context: dg.SensorEvaluationContext, run_id: str) -> EndedRun | None:
        """One whose records cannot be understood is told as failed, and keeps no other from it."""
        from forge_assets.alerts.ended_run import read_run
        from resources.database_errors import database_errors

        try:
            return read_run(context.instance, run_id, self.workflows)
        except Exception as error:
            if isinstance(error, database_errors()):
                raise
            reason = f"its records cannot be read: {type(error).__name__}: {error}"
            context.log.warning(f"run {run_id}: {reason}")
            return EndedRun(run_id, failed=True, subject="a run", reason=reason)

    def tell(
        self, context: dg.SensorEvaluationContext, messages: "Sequence[Message]", cursor: EndCursor
    ) -> dg.SensorResult:
        """Writes the messages down, then sends what is due: also what did not arrive before.

        Both sensors write a run's message under the same key, so that it is sent once. The cursor
        only moves when they are written.
        """
        from forge_assets.alerts.delivery import LOG, deliver

        added = self.alerts.add(messages, self.config.to or (LOG,))
        arrived = deliver(self.alerts, self.send, context.log.info, context.log.warning)
        self.alerts.forget()
        counted = f"{len(added)} new messages, {arrived} delivered"
        return dg.SensorResult(skip_reason=counted, cursor=cursor.text())


def alert_tools(project: Project, interval: int = INTERVAL_SECONDS) -> AlertTools:
    config = AlertsConfig.model_validate(project.config.alerts)
    names = [workflow.name for workflow in project.workflows]
    return AlertTools(config, names, interval=interval)
