"""Workflow files and configurations that somebody wrote to do harm: a sentence each, or a workflow."""

import json
import re
from pathlib import Path

import pytest

from forge_assets.config import load_config
from forge_assets.workflow.plan import advance, step_versions
from forge_assets.workflow.spec import Workflow, load_workflow
from forge_assets.workflow.template import TemplateError, render
from forge_assets.workflow.verdict import judge_output
from resources.errors import ConfigurationError
from resources.interaction import Status, StepState
from tests.hostile.guard import Guard
from tests.hostile.payloads import FUZZ, PATHS, PAYLOADS, a_text, a_value, assert_neutral, chance
from tests.hostile.workflow_inputs import NAMES, workflow_inputs

MODELS = {"m": {"source": "x"}}
SAFE_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
CONFIGURATIONS = 150 * FUZZ
HARD = ("a" * 5000 + "!", "\x00\ud800", '{"a": ' * 60 + "1" + "}" * 60, '"' + "x" * 3000 + '"')


def test_a_hostile_workflow_file_is_one_sentence_or_a_workflow(
    tmp_path: Path, guard: Guard
) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("workflow: w\nsteps: [{name: a, model: m, prompt: x}]\n")
    use(load_workflow(path, MODELS))  # what is imported late is there before anybody listens
    loaded = refused = 0
    for name, content in workflow_inputs():
        path.write_bytes(content)
        with guard.one(name):
            try:
                workflow = load_workflow(path, MODELS)
            except ConfigurationError as error:
                refused += 1
                one_sentence(error, name)
            else:
                loaded += 1
                use(workflow)
    assert loaded > 50, "the generator must get past the first check"
    assert refused > 300


def use(workflow: Workflow) -> None:
    """What a run does with it, short of a model."""
    assert SAFE_NAME.fullmatch(workflow.name)
    assert all(SAFE_NAME.fullmatch(step.name) for step in workflow)
    step_versions(workflow, MODELS)
    advance(workflow, {step.name: StepState(Status.PENDING) for step in workflow})
    fields = {"text": "{__class__} {text}", "a": "{{x}}"}
    states = {
        step.name: StepState(Status.COMPLETED, output="{text} {0}", parsed={"a": ["{a.output}"]})
        for step in workflow
    }
    for step in workflow:
        for template in (step.prompt, step.system or "x"):
            try:
                prompt = render(template, fields, states)
            except TemplateError:
                continue
            assert "<class" not in prompt
        # A catastrophic pattern takes its second with each text.
        for text in HARD if step.output.pattern is None else HARD[:1]:
            verdict = judge_output(text, step.output, False)
            assert verdict.accepted == (verdict.error_class is None)


def one_sentence(error: ConfigurationError, name: str) -> None:
    text = str(error)
    assert text, name
    assert "\n" not in text, name
    assert len(text) < 3000, name
    assert "Traceback" not in text
    assert_neutral(text, name)


def test_a_hostile_configuration_is_one_sentence_or_a_configuration(
    tmp_path: Path, guard: Guard
) -> None:
    path = tmp_path / "forge.yaml"
    (tmp_path / "flow.yaml").write_text("workflow: w\nsteps: [{name: a, model: m, prompt: x}]\n")
    path.write_text(json.dumps(configuration()))
    load_config(path)
    places = ("subjects", "models", "workflows", "stages", "batches", "thresholds", "gate_wait")
    for number in range(CONFIGURATIONS):
        random_ = chance(f"configuration/{number}")
        content = configuration()
        place = random_.choice(places)
        value = a_value(random_)
        match random_.randrange(3):
            case 0:
                content[place] = value
            case 1 if place == "stages":
                content[place] = [{"key": random_.choice(NAMES + PATHS), "subjects": 3}]
            case 1 if place == "models":
                content[place] = {random_.choice(NAMES + PATHS): {"source": a_text(random_)}}
            case 1 if place == "workflows":
                content[place] = [random_.choice(PATHS)]
            case _:
                content["subjects"] = {"source": "sql", "url": a_text(random_), "table": "t"}
        path.write_text(json.dumps(content))
        with guard.one(f"configuration {number}"):
            try:
                config = load_config(path)
            except ConfigurationError as error:
                one_sentence(error, f"configuration {number}")
            else:
                for stage in config.stages:
                    stays_inside(tmp_path, stage.key)
                for key in config.models:
                    stays_inside(tmp_path, key)


def configuration() -> dict[str, object]:
    return {
        "subjects": {"source": "jsonl", "path": "s.jsonl"},
        "models": {"m": {"source": "package:x"}},
        "workflows": ["flow.yaml"],
    }


def stays_inside(folder: Path, name: str) -> None:
    assert (folder / name).resolve().parent == folder.resolve(), name


@pytest.mark.parametrize(
    "name", [name for name in (*NAMES, *PATHS) if not SAFE_NAME.fullmatch(name)]
)
def test_no_name_of_a_workflow_step_or_stage_leaves_its_folder(tmp_path: Path, name: str) -> None:
    """They name folders below output/ and assets; models name files of the engines."""
    path = tmp_path / "flow.yaml"
    for content in (
        {"workflow": name, "steps": [{"name": "a", "model": "m", "prompt": "x"}]},
        {"workflow": "w", "steps": [{"name": name, "model": "m", "prompt": "x"}]},
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigurationError):
            load_workflow(path, MODELS)
    path.write_text("workflow: w\nsteps: [{name: a, model: m, prompt: x}]\n")
    for section in (
        {"stages": [{"key": name, "subjects": 1}]},
        {"models": {name: {"source": "package:x"}}},
    ):
        (tmp_path / "forge.yaml").write_text(json.dumps(configuration() | section))
        try:
            config = load_config(tmp_path / "forge.yaml")
        except ConfigurationError:
            continue
        for key in (*(stage.key for stage in config.stages), *config.models):
            stays_inside(tmp_path, key)


def test_payloads_are_many() -> None:
    assert len(PAYLOADS) > 60
