"""A version changes for the step that changed and what comes after it, and for nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge_assets.workflow.plan import descendants, step_versions
from forge_assets.workflow.spec import Step, Workflow, load_workflow

MODELS: dict[str, dict[str, Any]] = {
    "small": {"source": "s", "dtype": "auto"},
    "large": {"source": "l"},
}

TEXT = """\
workflow: w
steps:
  - {name: a, model: small, prompt: "one {text}"}
  - {name: b, model: large, prompt: "two {a.output}", needs: [a], generate: {seed: 7}}
  - {name: c, model: small, prompt: three}
  - {name: d, model: small, prompt: "{b.output}{c.output}", needs: [b, c]}
"""

Versions = Callable[..., dict[str, str]]


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    def of(text: str = TEXT, models: dict[str, dict[str, Any]] = MODELS) -> dict[str, str]:
        path = tmp_path / "w.yaml"
        path.write_text(text)
        return step_versions(load_workflow(path, models), models)

    return of


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_sixteen_hex_digits_each_its_own(versions: Versions) -> None:
    found = versions()
    assert list(found) == ["a", "b", "c", "d"]
    assert len(set(found.values())) == 4
    assert all(len(version) == 16 and int(version, 16) >= 0 for version in found.values())
    assert found == versions()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("workflow: w\n", "# a comment\nworkflow:   w\n\n"),
        (
            '{name: a, model: small, prompt: "one {text}"}',
            "{prompt: 'one {text}', model: small, name: a}",
        ),
        ("generate: {seed: 7}", "generate: {seed: 7, temperature: 0, max_new_tokens: 128}"),
        ("needs: [b, c]", "needs: [c, b]"),
        ("prompt: three}", "prompt: three, retries: 0, tolerate: false, output: {}}"),
    ],
)
def test_layout_order_and_written_out_defaults_do_not_count(
    versions: Versions, old: str, new: str
) -> None:
    assert old in TEXT
    assert versions(TEXT.replace(old, new)) == versions()


@pytest.mark.parametrize(
    ("old", "new", "reached"),
    [
        ("one {text}", "1 {text}", {"a", "b", "d"}),
        ("seed: 7", "seed: 8", {"b", "d"}),
        ("prompt: three", "prompt: three, system: x", {"c", "d"}),
        ("prompt: three", "prompt: three, output: {max_chars: 9}", {"c", "d"}),
        ("three}", "three, model: large}", {"c", "d"}),
        ("needs: [b, c]", "needs: [b, c, a]", {"d"}),
        ("needs: [b, c]", "needs: [b, c], tolerate: true", {"d"}),
    ],
)
def test_a_change_reaches_the_step_and_its_descendants(
    versions: Versions, old: str, new: str, reached: set[str]
) -> None:
    text = TEXT.replace(old, new).replace(
        "model: small, prompt: three, model", "prompt: three, model"
    )
    assert changed(versions(), versions(text)) == reached


def test_a_changed_model_reaches_its_steps_and_their_descendants(versions: Versions) -> None:
    assert changed(versions(), versions(models={**MODELS, "large": {"source": "x"}})) == {"b", "d"}
    assert changed(versions(), versions(models={**MODELS, "other": {"source": "x"}})) == set()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_on_random_graphs(data: st.DataObject) -> None:
    steps: list[Step] = []
    for position in range(data.draw(st.integers(1, 8))):
        names = [step.name for step in steps]
        needs = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        steps.append(Step(name=f"s{position}", model="small", prompt="p", needs=tuple(needs)))
    touched = data.draw(st.sampled_from(steps))
    workflow = Workflow("w", tuple(steps))
    other = Workflow(
        "w", tuple(s.model_copy(update={"prompt": "q"}) if s is touched else s for s in steps)
    )
    moved = changed(step_versions(workflow, MODELS), step_versions(other, MODELS))
    assert moved == {touched.name} | descendants(workflow)[touched.name]
