"""The sensors under a real daemon, with real runs: of a terminal, of the UI, and of the sensor."""

from tests.alerts.dagster_dev import DagsterDev
from tests.alerts.webhook import Webhook
from tests.pipeline.project import Project, pair, step, texts

STAGE = ["subjects", "model_weights", "review/gate", "review/draft", "review/results"]


def succeeded(project: Project, partition: str) -> bool:
    rows = project.query(
        "SELECT r.status FROM public.runs r JOIN public.run_tags t ON t.run_id = r.run_id"
        " WHERE t.key = 'dagster/partition' AND t.value = :partition",
        partition=partition,
    )
    return [row["status"] for row in rows] == ["SUCCESS"]


def test_a_failed_check_of_a_terminal_and_of_the_ui_is_told_once_each(
    project: Project, webhook: Webhook
) -> None:
    rejected = step("draft", "Say a word about {text}", output={"min_chars": 9000}, retries=0)
    project.write_workflow([rejected])
    project.environment["TEAM_WEBHOOK"] = webhook.url
    project.configure(alerts={"to": ["env:TEAM_WEBHOOK"], "base_url": "http://127.0.0.1:3000"})
    assert project.forge("run", "--stage", "canary-10").code == 1
    (by_terminal,) = project.dagster_runs()
    with DagsterDev(project) as dev:
        dev.until(lambda: webhook.received, "message of the terminal's run")
        by_ui = dev.launch("canary-10", STAGE)
        dev.until(lambda: len(webhook.received) > 1, "message of the UI's run")
        dev.ticks("check_alert_sensor", 3)
        dev.ticks("run_failure_alert_sensor", 3)
    assert webhook.titles == ["review canary-10: rejection_rate failed"] * 2
    for received, run in zip(webhook.received, (by_terminal, by_ui), strict=True):
        text = received["message"]
        assert "- rejection_rate: 100.0 % (3 of 3), limit 15 %" in text
        assert f"http://127.0.0.1:3000/runs/{run}" in text


def test_the_sensor_goes_from_stage_to_stage_until_the_subjects_are_done(project: Project) -> None:
    project.write_workflow(pair())
    assert project.forge("run", "--stage", "canary-10").code == 0
    with DagsterDev(project) as dev:
        dev.ticks("check_alert_sensor", 2)
        assert len(project.dagster_runs()) == 1
        dev.start_sensor("stage_progress_sensor")
        dev.until(lambda: succeeded(project, "ramp-50"), "end of ramp-50")
        dev.ticks("stage_progress_sensor", 3)
        assert len(project.dagster_runs()) == 2
        project.write_subjects(texts(9))
        assert project.materialize(None, "subjects").code == 0
        dev.until(lambda: succeeded(project, "batch-0001"), "end of the first batch")
        dev.ticks("stage_progress_sensor", 2)
        assert sorted(project.dagster_runs().values()) == ["SUCCESS"] * 4
    assert project.counts() == {"completed": 18}
    assert len(project.evaluations("batch-0001")) == 9
