"""The alert sensors on an instance of their own, ticked by hand, and runs to tell of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from forge_assets.alerts_config import AlertsConfig
from sensors.alert_tick import AlertTools
from sensors.alerts import alert_sensors
from tests.alerts.webhook import Webhook

CHECKS, FAILURES = "check_alert_sensor", "run_failure_alert_sensor"
PARTITIONS = dg.StaticPartitionsDefinition(["canary-10", "ramp-50"])
RESULTS = dg.AssetKey(["review", "results"])

Found = tuple[str, bool, bool]
"""A check: name, passed, blocking."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class AlertRig:
    instance: dg.DagsterInstance
    webhook: Webhook
    warnings: bool = True
    to: tuple[str, ...] | None = None
    now: Callable[[], datetime] = utc_now
    cursors: dict[str, str | None] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is known but the cursors and the store."""
        to = (self.webhook.url,) if self.to is None else self.to
        config = AlertsConfig(to=to, base_url="http://host:3000", warnings=self.warnings)
        tools = AlertTools(config, ["review"], {}, self.now)
        self.sensors = {made.name: made for made in alert_sensors(tools)}

    def tick(self, *names: str, keep: bool = True) -> str:
        """Of both sensors unless named. ``keep`` False: killed before the cursor was kept."""
        said = ""
        for name in names or (CHECKS, FAILURES):
            cursor = self.cursors.get(name)
            with dg.build_sensor_context(instance=self.instance, cursor=cursor) as context:
                result = self.sensors[name](context)
            assert isinstance(result, dg.SensorResult), result
            said = str(result.skip_reason and result.skip_reason.skip_message)
            if keep:
                self.cursors[name] = result.cursor
        return said

    def run(
        self,
        *checks: Found,
        raises: Exception | None = None,
        partition: str = "ramp-50",
    ) -> dg.ExecuteInProcessResult:
        """As the terminal makes one: no code location has a part in it."""
        return execute(self.instance, stage_asset(checks, raises), partition)


def execute(
    instance: dg.DagsterInstance,
    asset: dg.AssetsDefinition,
    partition: str | None = None,
    config: dict[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    job = dg.Definitions(assets=[asset]).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        partition_key=partition,
        asset_selection=list(asset.keys),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}} | (config or {}),
        raise_on_error=False,
    )


def stage_asset(checks: Sequence[Found], raises: Exception | None = None) -> dg.AssetsDefinition:
    @dg.asset(
        key=RESULTS,
        partitions_def=PARTITIONS,
        check_specs=[
            dg.AssetCheckSpec(name, asset=RESULTS, blocking=blocking, partitions_def=PARTITIONS)
            for name, _, blocking in checks
        ],
    )
    def results() -> dg.MaterializeResult:
        if raises is not None:
            raise raises
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    check_name=name,
                    passed=passed,
                    severity=dg.AssetCheckSeverity.ERROR
                    if blocking
                    else dg.AssetCheckSeverity.WARN,
                    description="22.0 % (11 of 50), limit 15 %",
                )
                for name, passed, blocking in checks
            ]
        )

    return results
