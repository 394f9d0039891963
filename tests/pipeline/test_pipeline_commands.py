"""The commands that look: status, plan, preflight, trace."""

import pytest

from tests.pipeline.project import Project


@pytest.fixture(scope="module")
def done(module_project: Project) -> Project:
    """The first stage has passed; the second has not begun."""
    ended = module_project.forge("run", "--stage", "canary-10")
    assert ended.code == 0, ended.text
    assert "forge run --stage ramp-50" in ended.out
    return module_project


def test_plan_generates_nothing(project: Project) -> None:
    ended = project.forge("plan", "--stage", "canary-10", "--json")
    assert ended.code == 0, ended.text
    plan = ended.data
    assert (plan["subjects"], plan["interactions_at_most"], plan["loads"]) == (3, 6, 2)
    assert {group["model"]: group["steps"] for group in plan["groups"]} == {
        "small": ["draft"],
        "other": ["polish"],
    }
    for table in ("subjects", "interactions", "interaction_events", "runs", "model_loads"):
        assert project.scalar(f"SELECT count(*) FROM forge.{table}") == 0
    assert project.dagster_runs() == {}


def test_plan_of_a_stage_that_ran(done: Project) -> None:
    plan = done.forge("plan", "--stage", "canary-10", "--json").data
    assert (plan["done"], plan["interactions_at_most"], plan["loads"]) == (6, 0, 0)
    ahead = done.forge("plan", "--stage", "ramp-50", "--json").data
    assert (ahead["subjects"], ahead["interactions_at_most"]) == (4, 8)
    assert ahead["seconds"] > 0
    assert ahead["measured_on"] == "engines"


def test_preflight_says_go(done: Project) -> None:
    ended = done.forge("preflight", "--stage", "ramp-50")
    assert ended.code == 0, ended.text
    lines = ended.out.splitlines()
    assert lines[-1] == "GO for ramp-50"
    assert not any(line.startswith("NO-GO") for line in lines)
    for criterion in ("plan", "gate", "weights small", "weights other", "memory"):
        assert any(criterion in line for line in lines), ended.out


def test_preflight_says_no_go_behind_a_closed_gate(done: Project) -> None:
    ended = done.forge("preflight", "--stage", "batch-0001")
    assert ended.code == 1, ended.text
    assert ended.out.splitlines()[-1].startswith("NO-GO for batch-0001: ")
    data = done.forge("preflight", "--stage", "batch-0001", "--json")
    assert data.code == 1
    assert data.data["go"] is False


def test_a_broken_limit_of_the_machine_refuses(project: Project) -> None:
    project.configure(preflight={"min_available_memory_gb": 100_000})
    ended = project.forge("preflight", "--stage", "canary-10")
    assert ended.code == 1, ended.text
    assert any(line.startswith("NO-GO") and "memory" in line for line in ended.out.splitlines())
    run = project.materialize("canary-10")
    assert run.code == 1
    assert "canary-10 refused: " in run.text
    assert project.counts() == {}


def test_trace_of_a_subject_and_of_an_interaction(done: Project) -> None:
    row = done.query(
        "SELECT i.id, i.prompt FROM forge.interactions i JOIN forge.subjects s"
        " ON s.id = i.subject_id WHERE s.key = 's1' AND i.step = 'polish'"
    )[0]
    subject = done.forge("trace", "s1")
    assert subject.code == 0, subject.text
    assert subject.out.startswith("# Subject `s1`")
    for text in ("draft: completed", "polish: completed", row["prompt"]):
        assert text in subject.out
    one = done.forge("trace", str(row["id"]))
    assert one.code == 0, one.text
    assert one.out.startswith(f"# Interaction {row['id']} of subject `s1`")
    assert "draft: completed" not in one.out
    data = done.forge("trace", "s1", "--json").data
    assert sorted(each["step"] for each in data["interactions"]) == ["draft", "polish"]


def test_status_and_all_reports_print(done: Project) -> None:
    status = done.forge("status")
    assert status.code == 0
    assert "canary-10" in status.out
    assert "passed" in status.out
    report = done.forge("report")
    assert report.code == 0, report.text
    assert "canary-10" in report.out
    assert "ramp-50" in report.out
    assert done.forge("report", "--json").data["workflows"]["review"]
