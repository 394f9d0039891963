"""Interactions of several subjects and several steps share a forward pass; a model is loaded once."""

from collections import defaultdict

import pytest

from tests.pipeline.project import OTHER, Project, step


@pytest.fixture(scope="module")
def done(module_project: Project) -> Project:
    module_project.write_workflow(
        [
            step("topic", "Read this text. {text} Name its topic."),
            step("mood", "Read this text. {text} Name its mood."),
            step("both", "{topic.output} {mood.output}", model=OTHER, needs=["topic", "mood"]),
            step("last", "Say: {both.output}", needs=["both"]),
        ]
    )
    ended = module_project.materialize("canary-10")
    assert ended.code == 0, ended.text
    return module_project


def test_subjects_and_steps_share_a_forward_batch(done: Project) -> None:
    batches = defaultdict(set)
    for row in done.query("SELECT subject_id, step, provenance FROM forge.interactions"):
        batches[row["provenance"]["batch_id"]].add((row["subject_id"], row["step"]))
    roots = [members for members in batches.values() if {"topic", "mood"} & {s for _, s in members}]
    assert len(roots) == 1
    assert {name for _, name in roots[0]} == {"topic", "mood"}
    assert len({subject for subject, _ in roots[0]}) == 3
    sizes = done.query("SELECT provenance->'batch_size' AS size FROM forge.interactions")
    assert {row["size"] for row in sizes} == {6, 3}


def test_each_model_is_loaded_once(done: Project) -> None:
    loads = done.query("SELECT model FROM forge.model_loads")
    assert sorted(row["model"] for row in loads) == ["other", "small"]
    assert done.stage("canary-10")["model_loads"] == 2


def test_samples_of_the_machine_were_taken(done: Project) -> None:
    samples = done.query("SELECT * FROM forge.resource_samples")
    assert samples
    for sample in samples:
        assert 0 < sample["memory_available"] <= sample["memory_total"]
        assert 0 < sample["connections_total"] <= sample["connections_max"]
