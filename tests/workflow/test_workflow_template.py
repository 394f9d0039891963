"""Prompts are made of fields and answers, and of nothing else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge_assets.workflow.template import (
    Placeholder,
    TemplateError,
    fixed_text_behind,
    lookup,
    placeholders,
    render,
)
from resources.interaction import SkipKind, Status, StepState

DONE = StepState(Status.COMPLETED, output=" short \n", parsed={"level": 2, "tags": ["a", None]})


def test_fields_outputs_and_parsed_values() -> None:
    text = render(
        "{title}: {a.output}, {a.parsed.level}, {a.parsed.tags.0}, {a.parsed.tags}",
        {"title": "T"},
        {"a": DONE},
    )
    assert text == 'T: short, 2, a, ["a", null]'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        (3, "3"),
        (1.5, "1.5"),
        (True, "true"),
        ([1, "ä"], '[1, "ä"]'),
        ({"k": None}, '{"k": null}'),
    ],
)
def test_values_go_in_as_text_or_json(value: object, text: str) -> None:
    assert render("<{x}>", {"x": value}, {}) == f"<{text}>"


def test_a_null_inside_an_answer_is_a_value() -> None:
    assert render("{a.parsed.tags.1}", {}, {"a": DONE}) == "null"


def test_literal_braces() -> None:
    assert render("{{x}} {{{x}}} }}{{", {"x": 1}, {}) == "{x} {1} }{"


def test_inserted_text_is_never_expanded_again() -> None:
    fields = {"x": "{y} {{z}} {a.output}", "y": "secret"}
    assert render("{x}", fields, {"a": DONE}) == "{y} {{z}} {a.output}"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(), st.text(), st.text())
def test_any_text_survives(before: str, value: str, after: str) -> None:
    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    assert render(escaped(before) + "{x}" + escaped(after), {"x": value}, {}) == (
        before + value + after
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="{}x.! :parsedoutu0[]\n"))
def test_any_template_is_parsed_or_refused(template: str) -> None:
    try:
        found = placeholders(template)
    except TemplateError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(placeholder.text in template for placeholder in found)


@pytest.mark.parametrize(
    "template",
    [
        "{}",
        "{0}",
        "{ x }",
        "{x!r}",
        "{x:>10}",
        "{x[0]}",
        "{x.__class__}",
        "{a.output.x}",
        "{a.parsed.}",
        "{a.parsed..x}",
        "{a.result}",
        "{Step.output}",
        '{"key": 1}',
        "{a\nb}",
    ],
)
def test_everything_else_in_braces_is_refused(template: str) -> None:
    with pytest.raises(TemplateError, match="is no placeholder; write"):
        placeholders(template)


@pytest.mark.parametrize("template", ["{x", "x}", "{x{y}}", "{{x}", "{x}}"])
def test_single_braces_are_refused(template: str) -> None:
    with pytest.raises(TemplateError, match=r"a single '[{}]' near"):
        placeholders(template)


def test_placeholders_in_order() -> None:
    assert placeholders("{b} {s.output} {s.parsed} {s.parsed.k.0} {job title}") == (
        Placeholder("{b}"),
        Placeholder("{s.output}", "s"),
        Placeholder("{s.parsed}", "s", True),
        Placeholder("{s.parsed.k.0}", "s", True, ("k", "0")),
        Placeholder("{job title}"),
    )


@pytest.mark.parametrize(
    ("template", "fields", "message"),
    [
        ("{x}", {"y": 1}, "{x}: the field is missing in this subject"),
        ("{x}", {"x": None}, "{x}: the field is null in this subject"),
        ("{a.parsed.no}", {}, "{a.parsed.no}: the answer of step 'a' has no such key"),
        ("{a.parsed.tags.7}", {}, "{a.parsed.tags.7}: the answer of step 'a' has no such key"),
        ("{b.output}", {}, "{b.output}: step 'b' has not ended"),
        ("{run.output}", {}, "{run.output}: step 'run' has not ended"),
    ],
)
def test_what_is_not_there_is_an_error(
    template: str, fields: dict[str, object], message: str
) -> None:
    states = {"a": DONE, "run": StepState(Status.RUNNING)}
    with pytest.raises(TemplateError) as caught:
        render(template, fields, states)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "state",
    [
        StepState(Status.SKIPPED, skip_kind=SkipKind.BRANCH),
        StepState(Status.SKIPPED, skip_kind=SkipKind.ANCESTOR),
        StepState(Status.REJECTED, output="refused text"),
        StepState(Status.FAILED),
    ],
)
def test_an_ancestor_without_result_is_empty_text(state: StepState) -> None:
    assert render("[{a.output}{a.parsed.k}]", {}, {"a": state}) == "[]"


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_parsed_lists_are_json(value: object) -> None:
    state = StepState(Status.COMPLETED, output="x", parsed=[value])
    rendered = render("{a.parsed}", {}, {"a": state})
    assert json.loads(rendered) == [value]


def test_lookup() -> None:
    data = {"a": [{"b": None}], "1": "x"}
    assert lookup(data, ()) == (data,)
    assert lookup(data, ("a", "0", "b")) == (None,)
    assert lookup(data, ("1",)) == ("x",)
    assert lookup(data, ("a", "1")) is None
    assert lookup(data, ("a", "-1")) is None
    assert lookup("text", ("0",)) is None


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{text}" + "x" * 300, 300),
        ("Say: {text}" + "x" * 150 + "{other}" + "{{" * 150, 300),
        ("x" * 300 + "{text}" + "y" * 250, None),  # most of it stands before
        ("{text}" + "x" * 200, None),  # too little to matter
        ("x" * 300, None),
    ],
)
def test_fixed_text_behind_the_first_placeholder(template: str, expected: int | None) -> None:
    found = fixed_text_behind(template)
    assert (found and (found[0], found[1].text)) == (expected and (expected, "{text}"))
