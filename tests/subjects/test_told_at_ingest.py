"""What is said of keys that came before and of subjects that changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from forge_assets.config import load_config, load_workflows
from forge_assets.interactions.ingest import ingest_subjects
from forge_assets.project import Project
from forge_assets.stages import build_stages
from resources.interaction_store import InteractionStore, PlannedStep, StageScope

Ingest = Callable[..., list[str]]

FORGE = """\
subjects: {source: jsonl, path: x.jsonl, name: d}
models: {m: {source: package:weights}}
workflows: [flow.yaml]
"""
FLOW = "workflow: w\nsteps:\n  - name: a\n    model: m\n    prompt: Say {text}\n"


@pytest.fixture
def store(postgres_engine: sqlalchemy.Engine) -> InteractionStore:
    return InteractionStore(postgres_engine)


@pytest.fixture
def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: InteractionStore) -> Ingest:
    """Writes the records to the source, ingests it and gives what was said."""
    monkeypatch.chdir(tmp_path)
    Path("forge.yaml").write_text(FORGE)
    Path("flow.yaml").write_text(FLOW)
    config = load_config(Path("forge.yaml"))
    stages = build_stages(config.stages, config.batches)
    project = Project(config, load_workflows(config), stages)

    def ingested(*records: dict[str, Any]) -> list[str]:
        Path("x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        said: list[str] = []
        ingest_subjects(project, store, said.append)
        return said

    return ingested


def subject(key: object, text: str = "x") -> dict[str, Any]:
    return {"id": key, "text": text}


def test_keys_that_came_before_are_told_in_one_line(ingest: Ingest) -> None:
    one = [subject(1), subject("1", "other")]
    assert ingest(*one) == ["1 record passed over: its key came before (the first: '1')"]
    more = [*one, subject("b\n"), subject(3), subject(3), subject("b\n", "other")]
    assert ingest(*more) == ["3 records passed over: their key came before (the first: '1')"]
    assert ingest(subject("b\n"), subject("b\n"), subject(1), subject(3)) == [
        "1 record passed over: its key came before (the first: 'b\\n')"
    ]


def test_an_unchanged_source_says_nothing(ingest: Ingest) -> None:
    assert ingest(subject(1), subject(2)) == []
    assert ingest(subject(1), subject(2)) == []


def test_subjects_are_told_whose_interactions_are_made_anew(
    ingest: Ingest, store: InteractionStore
) -> None:
    def plan() -> None:
        scope = StageScope("d", "w", "canary-10", 0, 10)
        store.plan_stage(scope, [PlannedStep("a", "1", "m", root=True)], lambda _: {})

    ingest(subject(1), subject(2), subject(3))
    assert ingest(subject(1), subject(2), subject(3, "before anything was made")) == []
    plan()
    assert ingest(subject(1, "y"), subject(2), subject(3)) == [
        "2 subjects have changed: what was made of them is made anew"
    ]
    plan()
    assert ingest(subject(1, "y"), subject(2, "y"), subject(3)) == [
        "1 subject has changed: what was made of it is made anew"
    ]
    assert ingest(subject(1, "y"), subject(2, "y"), subject(3)) == []
