"""What `forge plan` says of subjects that it may not know yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.interaction_store import InteractionStore
from resources.subject_record import subject_record
from tests.pipeline.project import Project, pair, texts

CAVEAT = "what has changed in the subjects' source since it was read last is not in these figures"


@pytest.fixture
def project(postgres_url: str, tmp_path: Path, weights_cache: Path) -> Iterator[Project]:
    """Three subjects in the source, all in the first stage."""
    made = Project(tmp_path, postgres_url, weights_cache)
    made.configure()
    made.write_subjects(texts(3))
    made.write_workflow(pair())
    yield made
    made.engine.dispose()


def plan(project: Project, stage: str) -> list[str]:
    ended = project.forge("plan", "--stage", stage)
    assert ended.code == 0, ended.text
    return ended.out.splitlines()


def read(project: Project) -> None:
    """As the asset of the subjects does."""
    records = [subject_record(text, None, 10**6) for text in texts(3)]
    InteractionStore(project.engine).ingest("texts", records)


def test_a_source_that_was_never_read_is_looked_at(project: Project) -> None:
    assert plan(project, "ramp-50")[1:] == ["no subject of the source falls into this stage"]
    assert CAVEAT not in plan(project, "canary-10")


def test_a_source_that_was_read_may_have_grown_since(project: Project) -> None:
    read(project)
    project.write_subjects(texts(7))
    assert plan(project, "ramp-50")[1:] == [
        "no subject that is known so far falls into this stage",
        CAVEAT,
    ]
    # Nothing is done here yet, but its subjects may have changed.
    assert CAVEAT in plan(project, "canary-10")
    assert project.forge("plan", "--stage", "ramp-50", "--json").data["as_last_read"] is True
