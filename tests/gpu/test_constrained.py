import json
from collections.abc import Callable

import pytest

from resources.gpu.engines.base import GenerationRequest
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.interaction import ErrorClass

GRADE = {
    "type": "object",
    "properties": {
        "clarity": {"type": "integer", "minimum": 1, "maximum": 5},
        "kind": {"enum": ["good", "bad"]},
    },
    "required": ["clarity", "kind"],
    "additionalProperties": False,
}
LABEL = {"type": "object", "properties": {"label": {"type": "boolean"}}, "required": ["label"]}


def test_every_row_keeps_its_own_grammar(shipped: TransformersEngine) -> None:
    """Two schemas, a list and free text in one batch."""
    topics = ("files", "numbers", "text, or nothing", "text")
    done = {
        completion.request_id: completion
        for completion in shipped.generate(
            [
                GenerationRequest(1, "Grade this text: returns x.", 40, json_schema=GRADE),
                GenerationRequest(2, "Is this a label?", 40, json_schema=LABEL),
                GenerationRequest(3, "Which topic has 'Return the sum'?", 12, one_of=topics),
                GenerationRequest(4, "What is the capital of France?", 8),
            ]
        )
    }
    assert len({completion.provenance["batch_id"] for completion in done.values()}) == 1
    grade = json.loads(done[1].text)
    assert set(grade) == {"clarity", "kind"}
    assert grade["clarity"] in range(1, 6)
    assert set(json.loads(done[2].text)) == {"label"}
    assert done[3].text in topics
    assert "Paris" in done[4].text
    assert {done[number].finish_reason for number in (1, 2, 3)} == {"stop"}
    assert done[1].provenance["grammar"] == "json_schema"
    assert done[4].provenance["grammar"] == "none"


@pytest.mark.parametrize("seed", range(6))
def test_a_random_model_can_say_nothing_but_the_alternatives(
    tiny: Callable[..., TransformersEngine], seed: int
) -> None:
    options = ("yes", "yes, but", 'a "quoted" one', "Übung", "line\nbreak", "back\\slash")
    request = GenerationRequest(1, "Choose.", 20, temperature=3.0, seed=seed, one_of=options)
    (completion,) = tiny().generate([request])
    assert completion.text in options


def test_an_alternative_ends_once_it_is_the_only_one_left(
    tiny: Callable[..., TransformersEngine],
) -> None:
    options = ("documentation of a very long name", "nothing of that kind at all")
    (completion,) = tiny().generate([GenerationRequest(1, "Choose.", 20, one_of=options)])
    assert completion.text in options
    assert completion.output_tokens < 4


def test_json_that_does_not_fit_is_cut_and_says_so(shipped: TransformersEngine) -> None:
    (completion,) = shipped.generate([GenerationRequest(1, "Grade.", 3, json_schema=GRADE)])
    assert completion.finish_reason == "length"
    assert completion.output_tokens == 3


@pytest.mark.parametrize(
    "change", [{"json_schema": {"type": "nonsense"}}, {"one_of": ()}, {"one_of": ("a", "")}]
)
def test_a_grammar_that_cannot_be_compiled_is_refused(
    shipped: TransformersEngine, change: dict[str, object]
) -> None:
    bad = GenerationRequest(1, "Grade.", 8, **change)  # type: ignore[arg-type]
    error = shipped.check(bad)
    assert error is not None
    assert error.error_class is ErrorClass.ENGINE
    good = GenerationRequest(2, "What is the capital of France?", 8)
    completions = {done.request_id: done for done in shipped.generate([bad, good])}
    assert completions[1].error == error
    assert "Paris" in completions[2].text


def _unending(name: str) -> dict[str, object]:
    """A schema whose second property no text can fit."""
    return {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, name: {"$ref": "#/$defs/x"}},
        "required": ["ok", name],
        "$defs": {"x": {"$ref": "#/$defs/x"}},
    }


@pytest.mark.parametrize("engine_name", ["shipped", "shipped_continuous"])
def test_a_schema_that_leads_nowhere_fails_its_rows_and_not_the_batch(
    engine_name: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    engine: TransformersEngine = request.getfixturevalue(engine_name)
    requests = [
        GenerationRequest(1, "Hello", 40, json_schema={"$ref": "#"}),
        GenerationRequest(2, "Hello", 40, json_schema=_unending("a")),
        GenerationRequest(3, "Hello", 40, json_schema=_unending("b"), temperature=1.0),
        GenerationRequest(4, "What is the capital of France?", 8),
    ]
    done = {completion.request_id: completion for completion in engine.generate(requests)}
    for number in (1, 2, 3):
        error = done[number].error
        assert error is not None
        assert error.error_class is ErrorClass.ENGINE
        assert "no way to go on" in error.message
        assert done[number].finish_reason == "error"
    assert "Paris" in done[4].text
    assert len({completion.provenance["batch_id"] for completion in done.values()}) == 1
    assert "failed" not in caplog.text


def test_the_compiler_speaks_without_its_clock_and_source_line(shipped: TransformersEngine) -> None:
    bad = GenerationRequest(1, "x", 8, json_schema={"type": "string", "pattern": r"\bx"})
    error = shipped.check(bad)
    assert error is not None
    assert error.message.startswith("the json_schema cannot be compiled: Regex parsing error")
