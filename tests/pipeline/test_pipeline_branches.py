"""Branches and losses: who runs, who is skipped and why."""

import json

import pyarrow.parquet as pq
import pytest

from tests.pipeline.project import Project, step


def branch(name: str, op: str) -> dict[str, object]:
    when = {"step": "kind", "op": op, "value": "yes"}
    return step(name, f"{name}: {{kind.output}}", needs=["kind"], when=when)


STEPS = [
    # The answer is known: it may only say one thing.
    step("kind", "Answer: {text}", output={"one_of": ["yes"]}),
    branch("taken", "=="),
    branch("left_out", "!="),
    # One need is absent: its names are empty, the step runs.
    step("join", "[{taken.output}|{left_out.output}]", needs=["taken", "left_out"]),
    # All its needs are absent.
    step("nothing", "[{left_out.output}]", needs=["left_out"]),
    step("zero", "Count: {text}", output={"json_schema": {"enum": [0]}}),
    step("refused", "Say: {text}", output={"max_chars": 1}),
    step("lost", "[{refused.output}]", needs=["refused"]),
    step("lost_too", "[{lost.output}]", needs=["lost", "kind"]),
    step("tolerant", "[{refused.output}|{kind.output}]", needs=["refused", "kind"], tolerate=True),
]


@pytest.fixture(scope="module")
def done(module_project: Project) -> Project:
    module_project.configure(thresholds={"per_minute": 1, "rejection_rate": 0.5})
    module_project.write_workflow(STEPS)
    ended = module_project.materialize("canary-10")
    assert ended.code == 0, ended.text
    return module_project


def test_every_step_ends_as_the_language_says(done: Project) -> None:
    expected = {
        "kind": "completed",
        "taken": "completed",
        "left_out": "skipped",
        "join": "completed",
        "nothing": "skipped",
        "zero": "completed",
        "refused": "rejected",
        "lost": "skipped",
        "lost_too": "skipped",
        "tolerant": "completed",
    }
    assert done.statuses() == {
        (f"s{n}", name): status for n in range(3) for name, status in expected.items()
    }


def test_skips_say_why(done: Project) -> None:
    rows = done.query(
        "SELECT DISTINCT step, skip_kind, skip_reason FROM forge.interactions"
        " WHERE status = 'skipped' ORDER BY step"
    )
    kinds = {row["step"]: row["skip_kind"] for row in rows}
    assert len(rows) == len(kinds)
    assert kinds == {
        "left_out": "branch",
        "nothing": "branch",
        "lost": "ancestor",
        "lost_too": "ancestor",
    }
    reasons = {row["step"]: row["skip_reason"] for row in rows}
    assert "kind" in reasons["left_out"]
    assert "left_out" in reasons["nothing"]
    assert reasons["lost"] == "step 'refused' was rejected"
    assert "lost" in reasons["lost_too"]


def test_an_absent_need_renders_as_nothing(done: Project) -> None:
    rows = done.query(
        "SELECT j.prompt, t.output FROM forge.interactions j JOIN forge.interactions t"
        " ON t.subject_id = j.subject_id AND t.step = 'taken' WHERE j.step = 'join'"
    )
    assert len(rows) == 3
    assert all(row["prompt"] == f"[{row['output']}|]" for row in rows)
    tolerant = done.query("SELECT prompt FROM forge.interactions WHERE step = 'tolerant'")
    assert {row["prompt"] for row in tolerant} == {"[|yes]"}


def test_a_step_that_was_only_skipped_passes_its_own_checks(done: Project) -> None:
    found = {
        (one["asset_key"]["path"][1], one["check_name"]): one
        for one in done.evaluations("canary-10")
    }
    assert found["left_out", "rejection_rate"]["success"]
    assert found["left_out", "rejection_rate"]["description"] == "nothing attempted"
    assert not found["refused", "rejection_rate"]["success"]
    assert found["results", "rejection_rate"]["description"] == "16.7 % (3 of 18), limit 50 %"


def test_parsed_values_are_json_in_the_results(done: Project) -> None:
    rows = pq.read_table(done.output / "review/canary-10/results.parquet").to_pylist()
    assert [json.loads(row["zero.parsed"]) for row in rows] == [0, 0, 0]
    assert [json.loads(row["kind.parsed"]) for row in rows] == ["yes", "yes", "yes"]
    assert {row["taken.parsed"] for row in rows} == {None}


def test_a_field_that_one_subject_lacks_fails_that_row(project: Project) -> None:
    project.configure(thresholds={"per_minute": 1, "error_rate": 0.5})
    project.write_subjects(
        [{"key": "a", "text": "one"}, {"key": "b", "other": "x"}, {"key": "c", "text": "three"}]
    )
    ended = project.materialize("canary-10")
    assert ended.code == 0, ended.text
    assert project.statuses() == {
        ("a", "draft"): "completed",
        ("a", "polish"): "completed",
        ("b", "draft"): "failed",
        ("b", "polish"): "skipped",
        ("c", "draft"): "completed",
        ("c", "polish"): "completed",
    }
    failed = project.query(
        "SELECT error_class, error_message FROM forge.interactions WHERE status = 'failed'"
    )
    assert failed[0]["error_class"] == "template"
    assert "text" in failed[0]["error_message"]
