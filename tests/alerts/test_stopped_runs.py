"""Whoever stops a run, or cuts it short, is not told of it."""

import signal

import dagster as dg
import pytest

from tests.alerts.webhook import Webhook
from tests.pipeline.project import ROOT, Project, materialization
from tests.pipeline.test_pipeline_kill import completed, slow
from tests.sensors.alert_rig import AlertRig

FORGE = ("forge_assets.cli.main", "run", "--stage", "canary-10")
DAGSTER = ("dagster", *materialization("canary-10", '+key:"review/results"'))


def told(project: Project, webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("FORGE_DATABASE_URL", project.url)
    monkeypatch.setenv("DAGSTER_HOME", str(ROOT))
    with dg.DagsterInstance.get() as instance:
        AlertRig(instance, webhook).tick()
    return webhook.titles


@pytest.mark.parametrize(
    ("command", "sent"),
    [(FORGE, signal.SIGINT), (DAGSTER, signal.SIGTERM)],
    ids=["forge", "dagster"],
)
def test_a_run_that_was_stopped_by_a_signal(
    project: Project,
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    sent: signal.Signals,
) -> None:
    slow(project)
    running = project.start(*command)
    try:
        running.until(lambda: len(completed(project)) >= 2, "two interactions committed")
        running.send(sent)
        running.wait()
    finally:
        running.end()
    assert set(project.dagster_runs().values()) <= {"CANCELED", "FAILURE"}
    assert told(project, webhook, monkeypatch) == []


def test_a_run_that_was_cut_short(
    project: Project, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.forge(*FORGE[1:], "--max-interactions", "1").code == 0
    assert told(project, webhook, monkeypatch) == []


def test_a_run_that_its_gate_refused_is_told(
    project: Project, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.forge("run", "--stage", "ramp-50").code == 1
    assert told(project, webhook, monkeypatch) == ["review ramp-50: the run failed"]
    assert "canary-10 has not run; run canary-10 first" in webhook.received[0]["message"]
