"""Loading workflow files: what is accepted, and the one sentence for everything that is not."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from forge_assets.config import load_config, load_workflows, project_root
from forge_assets.workflow.spec import Workflow, load_workflow
from resources.errors import ConfigurationError

MODELS = ("small", "large")

GOOD = """\
workflow: review
steps:
  - name: summarize
    model: small
    prompt: |
      Sum up.

      {text}
    generate: {max_new_tokens: 64, temperature: 0, seed: 7, stop: ["##"]}
    output: {min_chars: 20, max_chars: 400, pattern: "[a-z]"}
    retries: 2
  - name: grade
    model: large
    prompt: "Grade {summarize.output} as {{json}}"
    needs: [summarize]
    output:
      json_schema:
        type: object
        properties:
          clarity: {type: integer}
          tags: {type: array, items: {type: string}}
  - name: sort
    model: small
    prompt: "Sort {text}"
    output: {one_of: [good, bad]}
  - name: rewrite
    model: large
    system: You are brief.
    prompt: "Rewrite {summarize.output}, graded {grade.parsed.clarity} {sort.parsed}"
    needs: [grade, sort]
    when: {step: grade, path: clarity, op: "<=", value: 2}
    tolerate: true
"""

Load = Callable[[str], Workflow]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def load_text(text: str) -> Workflow:
        path = tmp_path / "flow.yaml"
        path.write_text(text)
        return load_workflow(path, MODELS)

    return load_text


def refused(load: Load, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_whole_file(load: Load) -> None:
    workflow = load(GOOD)
    assert workflow.name == "review"
    assert [step.name for step in workflow] == ["summarize", "grade", "sort", "rewrite"]
    summarize, grade, _, rewrite = workflow.steps
    assert summarize.prompt == "Sum up.\n\n{text}\n"
    assert summarize.generate.stop == ("##",)
    assert (summarize.output.min_chars, summarize.output.max_chars) == (20, 400)
    assert summarize.retries == 2
    assert grade.output.json_schema is not None
    assert rewrite.when is not None
    assert (rewrite.when.op, rewrite.when.value) == ("<=", 2)
    assert rewrite.tolerate


def test_defaults(load: Load) -> None:
    step = load("workflow: w\nsteps:\n  - {name: a, model: small, prompt: hi}\n").steps[0]
    assert (step.generate.max_new_tokens, step.generate.temperature) == (128, 0)
    assert (step.generate.seed, step.generate.stop, step.generate.top_p) == (7, (), 1)
    assert (step.needs, step.when, step.retries, step.tolerate) == ((), None, 0, False)
    assert (step.output.min_chars, step.output.max_chars) == (1, None)


def test_the_shipped_workflow_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORGE_CONFIG", raising=False)
    workflows = load_workflows(load_config())
    assert [workflow.name for workflow in workflows] == ["api_review"]
    assert workflows[0].path == project_root() / "workflows" / "api_review.yaml"
    for step in workflows[0]:
        end = step.prompt.rstrip().splitlines()[-2:]
        assert re.search(r"\{[a-z_.]+\}", " ".join(end)), "the variable part comes last"


@pytest.mark.parametrize(
    "schema",
    [
        '{type: object, properties: {next: {$ref: "#"}}}',
        '{type: array, items: {$ref: "#"}}',
        '{$ref: "#/$defs/a", $defs: {a: {$ref: "#/$defs/b"}, b: {type: string}}}',
        "{type: string, pattern: '[(?=]\\(?=x(?:a|b)'}",
        "{enum: [{pattern: '(?=a)'}]}",
    ],
)
def test_schemas_that_only_look_like_what_is_refused(load: Load, schema: str) -> None:
    assert load(step(f"output: {{json_schema: {schema}}}")).steps[0].output.json_schema


def test_the_least_values_and_line_breaks_in_a_choice(load: Load) -> None:
    one = load(
        step(
            "generate: {temperature: 0.01, top_p: 0.001, repetition_penalty: 0.01}\n"
            'output: {one_of: ["a\\nb\\tc", d]}'
        )
    ).steps[0]
    assert (one.generate.temperature, one.generate.top_p) == (0.01, 0.001)
    assert one.output.one_of == ("a\nb\tc", "d")


def test_anchors_merge_keys_and_dates_as_text(load: Load) -> None:
    workflow = load(
        "workflow: w\n"
        "steps:\n"
        "  - &base {name: a, model: small, prompt: hi, output: {one_of: [2020-01-01, b]}}\n"
        "  - <<: *base\n"
        "    name: b\n"
    )
    first, second = workflow.steps
    assert second.model_copy(update={"name": "a"}) == first
    assert first.output.one_of == ("2020-01-01", "b")


def step(extra: str, name: str = "a") -> str:
    """A workflow of one step with more lines; they begin in line 6."""
    lines = "".join(f"    {line}\n" for line in extra.splitlines())
    return f"workflow: w\nsteps:\n  - name: {name}\n    model: small\n    prompt: p\n{lines}"


def two(extra: str, first: str = "") -> str:
    """Steps a and b (needs a); ``first`` is line 6, and the lines of ``extra`` begin in line 11."""
    lines = "".join(f"    {line}\n" for line in extra.splitlines())
    return (
        "workflow: w\nsteps:\n"
        f"  - name: a\n    model: small\n    prompt: p\n    {first or 'retries: 0'}\n"
        f"  - name: b\n    model: small\n    needs: [a]\n    retries: 0\n{lines}"
    )


SCHEMA = (
    "output: {json_schema: {type: object, properties: "
    "{level: {type: integer}, inner: {type: object, properties: {x: {type: string}}}}}}"
)

BAD_FILES = {
    "empty": ("", "flow.yaml:1: the file is empty"),
    "only a comment": ("# nothing\n", "flow.yaml:1: the file is empty"),
    "a list": ("- a\n", "flow.yaml:1: the file should hold 'key: value' lines, it holds a list"),
    "a word": ("hello\n", 'it holds "hello"'),
    "broken": ("workflow: w\nsteps: [a\n", "flow.yaml:3: broken YAML: "),
    "tab": ("workflow: w\nsteps:\n\t- a\n", "flow.yaml:3: broken YAML: found character '\\t'"),
    "two documents": (
        "workflow: w\n---\na: b\n",
        "flow.yaml:2: broken YAML: expected a single document",
    ),
    "control character": ("workflow: \x07\n", "flow.yaml: broken YAML: "),
    "unknown anchor": ("workflow: *x\n", "flow.yaml:1: broken YAML: found undefined alias"),
    "duplicate key": (
        step("retries: 1\nretries: 2"),
        "flow.yaml:7: steps[0].retries: the key stands here twice, first in line 6; remove one",
    ),
    "duplicate top key": (
        "workflow: w\nworkflow: v\n",
        "flow.yaml:2: workflow: the key stands here twice, first in line 1",
    ),
    "self-containing alias": (
        "workflow: w\nsteps: &s\n  - *s\n",
        "flow.yaml:2: steps[0]: an alias may not contain itself",
    ),
    "list as key": ("? [a]\n: b\n", "flow.yaml:1: a key must be text"),
    "unquoted tag": (
        two("prompt: p\nwhen:\n  step: a\n  op: !=\n  value: 1"),
        "flow.yaml:14: steps[1].when.op: unknown tag '!='; put the value in quotes",
    ),
    "not a number": (
        step("generate: {temperature: .nan}"),
        "flow.yaml:6: steps[0].generate.temperature: .nan is not a finite number",
    ),
    "bad explicit type": (
        step("retries: !!int x"),
        "flow.yaml:6: steps[0].retries: 'x' is no int; put it in quotes",
    ),
    "no workflow": ("steps: []\n", "flow.yaml:1: workflow: is missing"),
    "no steps": ("workflow: w\n", "flow.yaml:1: steps: is missing"),
    "empty steps": ("workflow: w\nsteps: []\n", "flow.yaml:2: steps: is empty"),
    "steps null": ("workflow: w\nsteps:\n", "flow.yaml:2: steps: should be a list, got nothing"),
    "steps mapping": ("workflow: w\nsteps: {a: 1}\n", "flow.yaml:2: steps: should be a list"),
    "step is text": (
        "workflow: w\nsteps:\n  - hello\n",
        "flow.yaml:3: steps[0]: should be a mapping of 'key: value' lines, got \"hello\"",
    ),
    "workflow name": ("workflow: My Flow\nsteps: []\n", "flow.yaml:1: workflow: 'My Flow' is no "),
    "reserved workflow": ("workflow: monitor\nsteps: []\n", "workflow: 'monitor' is a name of"),
    "workflow number": (
        "workflow: 7\nsteps: []\n",
        "flow.yaml:1: workflow: should be text, got 7; put it in quotes",
    ),
    "unknown top key": (
        "workflow: w\nstep: []\n",
        "flow.yaml:2: step: unknown key, did you mean 'steps'?; known keys: workflow, steps",
    ),
    "unknown step key before what it left missing": (
        "workflow: w\nsteps:\n  - name: a\n    model: small\n    promt: p\n",
        "flow.yaml:5: steps[0].promt: unknown key, did you mean 'prompt'?; known keys: name, model",
    ),
    "unknown nested key": (
        step("generate: {max_tokens: 4}"),
        "flow.yaml:6: steps[0].generate.max_tokens: unknown key, did you mean 'max_new_tokens'?",
    ),
    "unknown contract key": (
        step("output: {regex: x}"),
        "flow.yaml:6: steps[0].output.regex: unknown key; known keys: min_chars, max_chars",
    ),
    "missing prompt": (
        "workflow: w\nsteps:\n  - name: a\n    model: small\n",
        "flow.yaml:3: steps[0].prompt: is missing",
    ),
    "empty prompt": (step("").replace("prompt: p", 'prompt: "  "'), "steps[0].prompt: is empty"),
    "step name": (step("", "Sum-up"), "flow.yaml:3: steps[0].name: 'Sum-up' is no step name"),
    "long step name": (
        step("", "a" * 101),
        "flow.yaml:3: steps[0].name: has 101 characters; a name has at most 100",
    ),
    "long workflow name": (
        f"workflow: {'w' * 101}\nsteps: []\n",
        "flow.yaml:1: workflow: has 101 characters; a name has at most 100",
    ),
    "step named gate": (step("", "gate"), "flow.yaml:3: steps[0].name: 'gate' is a name of the"),
    "step named results": (step("", "results"), "steps[0].name: 'results' is a name of the"),
    "step name is a bool": (step("", "yes"), "steps[0].name: should be text, got true; put it in"),
    "text for a number": (
        step('retries: "2"'),
        'flow.yaml:6: steps[0].retries: should be a whole number, got "2"',
    ),
    "fraction": (step("retries: 1.5"), "steps[0].retries: should be a whole number, got 1.5"),
    "negative": (step("retries: -1"), "steps[0].retries: should be greater than or equal to 0"),
    "text for a bool": (step("tolerate: maybe"), "steps[0].tolerate: should be true or false"),
    "text for a list": (step("needs: b"), 'steps[0].needs: should be a list, got "b"'),
    "number in a list": (step("needs: [3]"), "flow.yaml:6: steps[0].needs[0]: should be text"),
    "zero tokens": (
        step("generate: {max_new_tokens: 0}"),
        "steps[0].generate.max_new_tokens: should be greater than 0, got 0",
    ),
    "top_p": (step("generate: {top_p: 1.5}"), "generate.top_p: should be less than or equal to 1"),
    "temperature near zero": (
        step("generate: {temperature: 1.0e-320}"),
        "flow.yaml:6: steps[0].generate.temperature: 1e-320 is too small to divide by; "
        "write 0 or at least 0.01",
    ),
    "top_p near zero": (
        step("generate: {top_p: 1.0e-320}"),
        "steps[0].generate.top_p: should be greater than or equal to 0.001, got 1e-320",
    ),
    "penalty near zero": (
        step("generate: {repetition_penalty: 1.0e-320}"),
        "generate.repetition_penalty: should be greater than or equal to 0.01, got 1e-320",
    ),
    "empty stop": (step("generate: {stop: ['']}"), "generate.stop: an empty text would stop"),
    "min over max": (
        step("output: {min_chars: 9, max_chars: 3}"),
        "flow.yaml:6: steps[0].output: min_chars 9 is more than max_chars 3; no text fits",
    ),
    "pattern": (
        step("output: {pattern: '[a'}"),
        "flow.yaml:6: steps[0].output.pattern: is no regular expression: ",
    ),
    "schema": (
        step("output: {json_schema: {type: objekt}}"),
        'flow.yaml:6: steps[0].output.json_schema: is no JSON schema: type: "objekt" is not valid',
    ),
    "schema reference": (
        step('output: {json_schema: {$ref: "#/$defs/x"}}'),
        "flow.yaml:6: steps[0].output.json_schema: has a $ref that names nothing in the schema; "
        "copy what it means into $defs: Pointer '/$defs/x' does not exist",
    ),
    "remote schema": (
        step('output: {json_schema: {items: {$ref: "http://x/y"}}}'),
        "json_schema: has a $ref that names nothing in the schema; "
        "copy what it means into $defs: Resource 'http://x/y' is not present",
    ),
    "schema file": (
        step('output: {json_schema: {$ref: "file:///dev/null"}}'),
        "cannot fetch file:///dev/null",
    ),
    "schema pattern": (
        step("output: {json_schema: {pattern: '('}}"),
        'json_schema: is no JSON schema: pattern: "(" is not a "regex"',
    ),
    "schema that is itself": (
        step('output: {json_schema: {$ref: "#"}}'),
        "flow.yaml:6: steps[0].output.json_schema: the $ref '#' leads back to itself without going "
        "into a property or an item, so it never ends; remove it",
    ),
    "schemas that are each other": (
        step(
            'output: {json_schema: {$ref: "#/$defs/a", $defs: '
            '{a: {$ref: "#/$defs/b~1"}, "b/": {$ref: "#/$defs/a"}}}}'
        ),
        "leads back to itself without going into a property",
    ),
    "schema with itself in allOf": (
        step('output: {json_schema: {allOf: [{$ref: "#"}]}}'),
        "the $ref '#' leads back to itself",
    ),
    "part of a schema that is itself": (
        step(
            "output: {json_schema: {type: object, properties: "
            '{a: {$anchor: x, anyOf: [{type: string}, {$ref: "#x"}]}}}}'
        ),
        "the $ref '#x' leads back to itself",
    ),
    "schema that looks ahead": (
        step("output: {json_schema: {type: object, properties: {a: {pattern: '^(?!x)[a-z]'}}}}"),
        "flow.yaml:6: steps[0].output.json_schema: the pattern '^(?!x)[a-z]' looks ahead or behind",
    ),
    "schema with names that look behind": (
        step("output: {json_schema: {patternProperties: {'(?<=a)b': {type: string}}}}"),
        "json_schema: the pattern '(?<=a)b' looks ahead or behind",
    ),
    "schema with a NUL in a name": (
        step('output: {json_schema: {type: object, properties: {"a\\0b": {type: string}}}}'),
        "json_schema: holds a NUL character (\\u0000), which no answer can keep; remove it",
    ),
    "schema with a NUL in a value": (
        step('output: {json_schema: {enum: ["a\\0b"]}}'),
        "json_schema: holds a NUL character (\\u0000)",
    ),
    "one_of with a NUL": (
        step('output: {one_of: ["a\\0b", c]}'),
        "steps[0].output.one_of: 'a\\x00b' holds a control character; remove it",
    ),
    "step name with a NUL": (
        step("", '"a\\0b"'),
        "steps[0].name: 'a",
    ),
    "one_of empty": (step("output: {one_of: []}"), "steps[0].output.one_of: is empty"),
    "one_of twice": (step("output: {one_of: [a, b, a]}"), "one_of: 'a' stands here twice"),
    "one_of blanks": (step("output: {one_of: [a, ' b']}"), "one_of: ' b' is empty or has blanks"),
    "one_of bool": (
        step("output: {one_of: [yes, maybe]}"),
        "steps[0].output.one_of[0]: should be text, got true; put it in quotes",
    ),
    "one_of and more": (
        step("output: {one_of: [a], json_schema: {}, max_chars: 3}"),
        "steps[0].output: one_of fixes the whole text; remove json_schema, max_chars",
    ),
    "names twice": (
        step("").replace("steps:\n", "steps:\n  - {name: a, model: small, prompt: p}\n"),
        "flow.yaml:4: steps[1].name: 'a' is already the name of steps[0]; rename one",
    ),
    "unknown model": (
        step("").replace("model: small", "model: smal"),
        "flow.yaml:4: steps[0].model: unknown model 'smal', did you mean 'small'?; "
        "known models in forge.yaml: small, large",
    ),
    "unknown need": (
        step("needs: [b]"),
        "flow.yaml:6: steps[0].needs[0]: unknown step 'b'; known steps: a",
    ),
    "self need": (step("needs: [a]"), "steps[0].needs[0]: step 'a' needs itself; remove it"),
    "need twice": (
        two("prompt: p").replace("needs: [a]", "needs: [a, a]"),
        "flow.yaml:9: steps[1].needs[1]: 'a' stands here twice; remove one",
    ),
    "cycle": (
        two("prompt: p", first="needs: [b]"),
        "needs: the needs run in a circle: ",
    ),
    "unknown step in a placeholder": (
        two("prompt: 'x {aa.output}'"),
        "flow.yaml:11: steps[1].prompt: unknown step 'aa' in {aa.output}, did you mean 'a'?; "
        "known steps: a, b",
    ),
    "unknown step in system": (
        two("prompt: p\nsystem: '{c.output}'"),
        "flow.yaml:12: steps[1].system: unknown step 'c' in {c.output}; known steps: a, b",
    ),
    "non-ancestor in a placeholder": (
        step("").replace("prompt: p", "prompt: '{b.output}'")
        + "  - {name: b, model: small, prompt: p}\n",
        "flow.yaml:5: steps[0].prompt: step 'b' in {b.output} does not come before 'a'; "
        "add 'b' to the needs of 'a'",
    ),
    "descendant in a placeholder": (
        two("prompt: p").replace(
            "    prompt: p\n    retries", "    prompt: '{b.output}'\n    retries"
        ),
        "flow.yaml:5: steps[0].prompt: step 'b' in {b.output} comes after 'a'; name one that",
    ),
    "own output": (
        step("").replace("prompt: p", "prompt: '{a.output}'"),
        "steps[0].prompt: step 'a' in {a.output} is the step itself",
    ),
    "parsed of a text step": (
        two("prompt: '{a.parsed.x}'"),
        "flow.yaml:11: steps[1].prompt: {a.parsed.x}: step 'a' has no parsed answer; "
        "give its output a json_schema or one_of",
    ),
    "key of a chosen text": (
        two("prompt: '{a.parsed.x}'", first="output: {one_of: [u, v]}"),
        "steps[1].prompt: {a.parsed.x}: the answer of step 'a' is one of its texts and has no 'x'",
    ),
    "key that the schema has not": (
        two("prompt: '{a.parsed.lewel}'", first=SCHEMA),
        "{a.parsed.lewel}: 'lewel' is not among the properties of the answer in the json_schema: "
        "level, inner",
    ),
    "key below a number": (
        two("prompt: '{a.parsed.level.x}'", first=SCHEMA),
        "{a.parsed.level.x}: level is integer in the json_schema, so it has no 'x'",
    ),
    "unclosed brace": (
        step("").replace("prompt: p", "prompt: 'give {text'"),
        "flow.yaml:5: steps[0].prompt: a single '{' near 'give {text'; write '{{' for a literal",
    ),
    "closing brace": (
        step("").replace("prompt: p", "prompt: 'a } b'"),
        "steps[0].prompt: a single '}' near 'a } b'; write '}}' for a literal brace",
    ),
    "json in a prompt": (
        step("").replace("prompt: p", """prompt: 'as {"clarity": 1}'"""),
        "steps[0].prompt: '{\"clarity\": 1}' is no placeholder; write {field}",
    ),
    "when on an unknown step": (
        two("prompt: p\nwhen: {step: c, op: ==, value: 1}"),
        "flow.yaml:12: steps[1].when.step: unknown step 'c'; known steps: a, b",
    ),
    "when on a non-ancestor": (
        two(
            "prompt: p\nwhen: {step: a, op: ==, value: u}", first="output: {one_of: [u, v]}"
        ).replace("needs: [a]", "needs: []"),
        "flow.yaml:12: steps[1].when.step: step 'a' does not come before 'b'; add 'a' to the needs",
    ),
    "when on a text step": (
        two("prompt: p\nwhen: {step: a, op: ==, value: x}"),
        "flow.yaml:12: steps[1].when.step: step 'a' has no parsed answer",
    ),
    "when without value": (
        two("prompt: p\nwhen: {step: a, op: ==}"),
        "flow.yaml:12: steps[1].when.value: is missing",
    ),
    "when operator": (
        two("prompt: p\nwhen: {step: a, op: '=<', value: 1}"),
        "steps[1].when.op: should be '==', '!=', '<', '<=', '>', '>=', 'in' or 'contains', got",
    ),
    "when path parts": (
        two("prompt: p\nwhen: {step: a, path: x..y, op: ==, value: 1}"),
        "steps[1].when.path: 'x..y' has an empty part",
    ),
    "when in without a list": (
        two("prompt: p\nwhen: {step: a, op: in, value: 1}"),
        "steps[1].when: op 'in' needs a list as value",
    ),
    "when order of a list": (
        two("prompt: p\nwhen: {step: a, op: '<', value: [1]}"),
        "steps[1].when: op '<' needs a number or a text as value",
    ),
    "when path that the schema has not": (
        two("prompt: p\nwhen: {step: a, path: inner.y, op: ==, value: u}", first=SCHEMA),
        "flow.yaml:12: steps[1].when.path: 'y' is not among the properties of inner in the",
    ),
    "when value of another type": (
        two("prompt: p\nwhen: {step: a, path: level, op: '<=', value: '2'}", first=SCHEMA),
        "flow.yaml:12: steps[1].when.value: '2' can never match: level is integer in the json_",
    ),
    "when value that cannot be chosen": (
        two("prompt: p\nwhen: {step: a, op: in, value: [u, w]}", first="output: {one_of: [u, v]}"),
        "flow.yaml:12: steps[1].when.value: unknown choice 'w'; known choices: u, v",
    ),
}


@pytest.mark.parametrize(("text", "expected"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_say_file_line_and_field_in_one_line(
    load: Load, text: str, expected: str
) -> None:
    message = refused(load, text)
    assert expected in message
    assert message.startswith("flow.yaml")
    assert "\n" not in message


def test_a_missing_file_a_folder_and_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for make, expected in (
        (lambda path: None, "x.yaml: there is no such file"),
        (lambda path: path.mkdir(), "x.yaml: is a folder, not a file"),
        (lambda path: path.rmdir() or path.write_bytes(b"a: \xff"), "x.yaml: is not UTF-8 text"),
    ):
        make(tmp_path / "x.yaml")
        with pytest.raises(ConfigurationError) as caught:
            load_workflow(tmp_path / "x.yaml", MODELS)
        assert str(caught.value).startswith(expected)


def test_a_file_elsewhere_is_named_by_its_whole_path(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("")
    with pytest.raises(ConfigurationError, match=f"^{path}:1: the file is empty$"):
        load_workflow(path, MODELS)


def test_an_alias_bomb_is_refused(load: Load) -> None:
    lines = ["workflow: w", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "holds more than 100,000 values" in refused(load, "\n".join(lines))


def test_a_deeply_nested_file_is_refused(load: Load) -> None:
    assert "nested too deep" in refused(load, "workflow: " + "[" * 800 + "]" * 800)


def test_open_schemas_leave_the_path_open(load: Load) -> None:
    for schema in (
        "{type: object}",
        "{}",
        "{properties: {x: {}}, additionalProperties: true}",
        "{anyOf: [{properties: {level: {}}}, {properties: {x: {}}}]}",
        '{$ref: "#/$defs/l", $defs: {l: {properties: {level: {}}}}}',
    ):
        workflow = load(
            two("prompt: '{a.parsed.level}'", first=f"output: {{json_schema: {schema}}}")
        )
        assert workflow.steps[1].needs == ("a",)


def test_an_ancestor_need_not_be_a_direct_need(load: Load) -> None:
    workflow = load(
        two("prompt: p") + "  - {name: c, model: small, needs: [b], prompt: '{a.output}'}\n"
    )
    assert workflow.graph.ancestors["c"] == {"a", "b"}
