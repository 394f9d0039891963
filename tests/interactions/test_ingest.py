"""What an ingestion says besides its counts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy

from forge_assets.config import load_config, load_workflows
from forge_assets.interactions.ingest import check_fields, ingest_subjects
from forge_assets.project import Project
from forge_assets.stages import build_stages
from resources.errors import ConfigurationError
from resources.interaction_store import InteractionStore

Ingest = Callable[[], list[str]]

FORGE = """\
subjects: {source: jsonl, path: x.jsonl}
models: {m: {source: package:weights}}
workflows: [flow.yaml]
"""
FLOW = "workflow: w\nsteps:\n  - name: a\n    model: m\n    prompt: |\n      Say\n      {body}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    Path("forge.yaml").write_text(FORGE)
    Path("flow.yaml").write_text(FLOW)
    config = load_config(Path("forge.yaml"))
    return Project(config, load_workflows(config), build_stages(config.stages, config.batches))


@pytest.fixture
def ingest(project: Project, postgres_engine: sqlalchemy.Engine) -> Ingest:
    def ingested() -> list[str]:
        said: list[str] = []
        ingest_subjects(project, InteractionStore(postgres_engine), said.append)
        return said

    return ingested


def write(*keys: str, bad: int = 0) -> None:
    lines = [json.dumps({"key": key, "body": "x"}) for key in keys] + ["{"] * bad
    Path("x.jsonl").write_text("\n".join(lines))


def test_what_is_passed_over_beyond_the_first_is_counted(ingest: Ingest) -> None:
    write("a", bad=20)
    assert len(ingest()) == 20
    write("a", bad=1_234)
    said = ingest()
    assert len(said) == 21
    assert said[19].startswith("passed over x.jsonl:21: not JSON")
    assert said[20] == "passed over 1,214 more records: 1,234 in all"


def test_subjects_that_left_the_source_are_told(ingest: Ingest) -> None:
    write("a", "b", "c")
    assert ingest() == []
    write("b")
    assert ingest() == [
        "2 of the subjects of before are no longer in the source: they stay in their stages,"
        " are worked on and count like the others"
    ]
    write("a", "b", "c")
    assert ingest() == []


def test_a_field_that_no_subject_has(project: Project) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_fields(project.workflows[0], {"bodies", "key", "bod"})
    assert str(caught.value) == (
        "flow.yaml:5: steps[0].prompt: {body} names a field that no subject has,"
        " did you mean 'bod'?; the subjects have: bod, bodies, key"
    )
