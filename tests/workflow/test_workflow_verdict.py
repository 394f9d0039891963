"""Every output gets a verdict, and a refusal says why with numbers."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge_assets.workflow.spec import OutputContract
from forge_assets.workflow.verdict import Verdict, judge_output, loop_in
from resources.interaction import ErrorClass

GRADE = {
    "type": "object",
    "properties": {"clarity": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["clarity"],
    "additionalProperties": False,
}
SENTENCE = "The function copies a file and returns the path of the new one. "


def contract(**parts: Any) -> OutputContract:
    return OutputContract.model_validate_json(json.dumps(parts), strict=True)


@pytest.mark.parametrize(
    ("parts", "text", "parsed"),
    [
        ({}, "anything", None),
        ({"min_chars": 0}, "", None),
        ({"min_chars": 3, "max_chars": 3}, "  abc\n", None),
        ({"pattern": "b+"}, "abbc", None),
        ({"pattern": r"\A\d+\Z"}, " 42 ", None),
        ({"one_of": ["yes", "no"]}, "yes\n", "yes"),
        ({"json_schema": GRADE}, ' {"clarity": 3}\n', {"clarity": 3}),
        ({"json_schema": {"type": "array"}}, "[]", []),
        ({"json_schema": {}}, "null", None),
        ({"json_schema": {"items": {"$ref": "#"}}}, "[[]]", [[]]),
        ({"json_schema": GRADE, "max_chars": 14}, '{"clarity": 3}', {"clarity": 3}),
    ],
)
@pytest.mark.parametrize("truncated", [False, True])
def test_accepted_even_when_cut_off(
    parts: dict[str, Any], text: str, parsed: Any, truncated: bool
) -> None:
    assert judge_output(text, contract(**parts), truncated) == Verdict(True, parsed)


@pytest.mark.parametrize(
    ("parts", "text", "reason"),
    [
        ({}, "", "0 characters, at least 1"),
        ({}, " \n\t ", "0 characters, at least 1"),
        ({"min_chars": 20}, "too short", "9 characters, at least 20"),
        ({"max_chars": 4}, "  12345 ", "5 characters, at most 4"),
        ({"pattern": r"\A\d+\Z"}, "4 2", r"does not match the pattern '\A\d+\Z'"),
        ({"one_of": ["yes", "no"]}, "Yes", "'Yes' is none of: yes, no"),
        ({"one_of": ["yes"]}, "yes.", "'yes.' is none of: yes"),
        ({"json_schema": GRADE}, "", "0 characters, at least 1"),
        ({"json_schema": GRADE, "min_chars": 0}, "", "no valid JSON: Expecting value"),
        ({"json_schema": GRADE}, "clarity: 3", "no valid JSON: Expecting value at character 0"),
        ({"json_schema": GRADE}, '{"clarity": 3} ok', "no valid JSON: Extra data at character 15"),
        ({"json_schema": GRADE}, '```\n{"clarity": 3}\n```', "no valid JSON: Expecting value"),
        ({"json_schema": GRADE}, "{}", '"clarity" is a required property'),
        ({"json_schema": GRADE}, '{"clarity": 9}', "clarity: 9 is greater than the maximum of 5"),
        ({"json_schema": GRADE}, '{"clarity": true}', 'clarity: true is not of type "integer"'),
        ({"json_schema": {}}, "NaN", "no valid JSON: NaN is not a JSON number"),
        ({"json_schema": {}}, '{"a": 1e999}', "no valid JSON: 1e999 is too large for a number"),
        ({"json_schema": {}}, "9" * 5000, "no valid JSON: Exceeds the limit"),
        ({"json_schema": {}}, "[" * 100_000, "the JSON is nested too deep"),
        (
            {"json_schema": GRADE},
            "[" * 900 + "]" * 900,
            "the JSON is nested deeper than 100 levels",
        ),
        (
            {"json_schema": {"type": "string"}},
            '"\\ud800"',
            "no valid JSON: half of a surrogate pair",
        ),
    ],
)
def test_refused_with_the_reason(parts: dict[str, Any], text: str, reason: str) -> None:
    for truncated, error_class, start in (
        (False, ErrorClass.CONTRACT, ""),
        (True, ErrorClass.TRUNCATED, "cut off at max_new_tokens: "),
    ):
        if loop_in(text):
            error_class, start = ErrorClass.REPETITION, ""
        verdict = judge_output(text, contract(**parts), truncated)
        assert not verdict.accepted
        assert verdict.parsed is None
        assert verdict.error_class is error_class
        assert reason in str(verdict.reason)
        assert str(verdict.reason).startswith(start)
        assert "\n" not in str(verdict.reason)


def test_a_long_answer_is_quoted_in_part_with_its_length() -> None:
    verdict = judge_output("word " * 23, contract(one_of=["a"]), False)
    assert str(verdict.reason).endswith("word wo...' (114 characters) is none of: a")


def test_a_long_schema_message_is_one_line() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    text = json.dumps({"x": "".join(chr(97 + i * i % 26) + str(i) for i in range(400)) + "\n"})
    reason = judge_output(text, contract(json_schema=schema), False).reason
    assert reason is not None
    assert reason.startswith('x: "')
    assert reason.endswith('is not of type "integer"')
    assert "\n" not in reason
    assert len(reason) < 320


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"name": 1, "items": [{"count": "3"}]}, "name: 1 is not of type"),
        ({"items": [{"count": "3"}]}, 'items.0.count: "3" is not of type "integer"'),
        ({"items": [4]}, "items.0: 4 is not valid under any of the schemas listed"),
        ({"items": {}, "other": 1}, "items: {} is not of type"),
        ({"items": [4], "name": None}, "name: null is not of type"),
    ],
)
def test_the_outermost_error_is_told_and_the_alternative_that_nearly_fits(
    value: dict[str, Any], reason: str
) -> None:
    counted = {"type": "object", "properties": {"count": {"type": "integer"}}}
    schema = {
        "properties": {
            "items": {"type": "array", "items": {"anyOf": [{"type": "string"}, counted]}},
            "name": {"type": "string"},
        },
    }
    told = judge_output(json.dumps(value), contract(json_schema=schema), False).reason
    assert str(told).startswith(reason)


def test_a_pattern_of_a_schema_cannot_backtrack_without_end() -> None:
    schema = {"pattern": r"^(a+)+b$"}
    assert not judge_output(f'"{"a" * 40_000}"', contract(json_schema=schema), False).accepted
    with pytest.raises(ValueError, match='is not a "regex"'):
        contract(json_schema={"pattern": r"^(a+)+b\1$"})


def test_a_recursive_schema_with_alternatives_does_not_multiply_reasons() -> None:
    operand = {"$ref": "#/$defs/any"}
    kinds = [
        {
            "type": "object",
            "properties": {"op": {"const": op}, "left": operand},
            "required": ["op", "left"],
        }
        for op in ("+", "*")
    ]
    schema = {**operand, "$defs": {"any": {"oneOf": [*kinds, {"type": "number"}]}}}
    text = '{"op": "+", "left": ' * 60
    assert judge_output(text + "1" + "}" * 60, contract(json_schema=schema), False).accepted
    told = judge_output(text + '"x"' + "}" * 60, contract(json_schema=schema), False).reason
    assert told == "does not fit the json_schema"
    near = judge_output('{"op": "+", "left": "x"}', contract(json_schema=schema), False).reason
    assert str(near).startswith("left: ")


def test_a_schema_that_multiplies_its_checks_is_refused() -> None:
    twice = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    schema = {"$ref": "#/$defs/a0", "$defs": {**twice, "a40": {"type": "string"}}}
    with pytest.raises(ValueError, match="more than 10,000 checks of one value"):
        contract(json_schema=schema)


def test_a_catastrophic_pattern_ends() -> None:
    verdict = judge_output("a" * 100 + "!", contract(pattern=r"^(a|aa)+$"), False)
    assert not verdict.accepted
    assert "pattern '^(a|aa)+$' needed more than 1 s; simplify it" in str(verdict.reason)


@pytest.mark.parametrize("form", ["email", "date"])
def test_formats_are_notes_only(form: str) -> None:
    assert judge_output('"no"', contract(json_schema={"format": form}), False).accepted


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(), st.booleans())
def test_any_text_gets_a_verdict(text: str, truncated: bool) -> None:
    for judge in (
        contract(),
        contract(json_schema=GRADE),
        contract(one_of=["x"]),
        contract(pattern="a"),
    ):
        verdict = judge_output(text, judge, truncated)
        assert verdict.accepted == (verdict.error_class is None) == (verdict.reason is None)


class TestLoops:
    @pytest.mark.parametrize(
        "text",
        [
            SENTENCE * 5,
            "A good beginning. " + SENTENCE * 4,
            "A good beginning. " + SENTENCE * 4 + SENTENCE[:30],
            SENTENCE * 4 + "\n\n" + SENTENCE,
            "the " * 40,
            "!" * 120,
            "哈" * 150,
            "1. and so on\n" * 12,
        ],
    )
    def test_found(self, text: str) -> None:
        assert loop_in(text) is not None
        for parts in ({}, {"max_chars": 5}):
            verdict = judge_output(text, contract(**parts), True)
            assert verdict.error_class is ErrorClass.REPETITION

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "very very very very good",
            SENTENCE * 3,
            SENTENCE * 4 + "Then it ends as a sentence should.",
            "a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z",
            "".join(f"{i}. item number {i}\n" for i in range(1, 30)),
            "-" * 100,
        ],
    )
    def test_not_found(self, text: str) -> None:
        assert loop_in(text) is None
        assert judge_output(text, contract(min_chars=0), False).accepted

    def test_the_reason_has_unit_count_and_length(self) -> None:
        assert loop_in("Well: " + "ab c " * 30) == (
            "the end repeats 'ab c ' 29 times over 149 characters"
        ) or loop_in("Well: " + "ab c " * 30) == (
            "the end repeats ' ab c' 30 times over 150 characters"
        )

    def test_an_accepted_structure_may_repeat(self) -> None:
        text = json.dumps([0] * 200)
        assert judge_output(text, contract(json_schema={"type": "array"}), False).accepted

    def test_a_structure_that_loops_until_it_is_cut_off(self) -> None:
        text = '{"clarity": "' + "very " * 60
        verdict = judge_output(text, contract(json_schema=GRADE), True)
        assert verdict.error_class is ErrorClass.REPETITION
        assert "no valid JSON" in str(verdict.reason)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.text(min_size=1, max_size=60), st.integers(4, 12), st.text(max_size=50))
    def test_a_long_enough_repeat_is_always_found(self, unit: str, times: int, start: str) -> None:
        folded = " ".join((start + unit * times).split())
        repeated = " ".join((unit * times).split())
        if len(repeated) >= 130 + 2 * len(unit) and times >= 6:
            assert loop_in(folded) is not None

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.text(), st.text("ab ", min_size=1), st.integers(1, 60))
    def test_what_is_found_really_repeats(self, start: str, unit: str, times: int) -> None:
        text = start + unit * times
        if loop_in(text) is not None:
            tail = " ".join(text.split())
            assert any(tail.endswith(tail[-size:] * 4) for size in range(1, len(tail) // 4 + 1))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.permutations([f"word{i}" for i in range(60)]))
    def test_distinct_words_never_loop(self, words: list[str]) -> None:
        assert loop_in(" ".join(words)) is None
