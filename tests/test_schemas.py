"""The JSON schemas take every file that the loader takes, and refuse what it refuses for its form."""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from forge_assets.config import ConfigFile, project_root
from forge_assets.workflow.spec import load_workflow
from forge_assets.workflow.steps import WorkflowFile
from forge_assets.yaml_document import load_document
from resources.errors import ConfigurationError
from tests.hostile.workflow_inputs import workflow_inputs
from tests.test_config import SMALLEST
from tests.workflow.test_workflow_loading import GOOD

ROOT = project_root()
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")
FORM = {
    "bool_type",
    "dict_type",
    "enum",
    "extra_forbidden",
    "float_type",
    "greater_than",
    "greater_than_equal",
    "int_type",
    "less_than",
    "less_than_equal",
    "literal_error",
    "missing",
    "model_type",
    "string_pattern_mismatch",
    "string_too_short",
    "string_type",
    "tuple_type",
    "union_tag_invalid",
    "union_tag_not_found",
}
"""Faults that a schema must see too."""

Data = dict[str, Any]


def schema_of(name: str) -> Data:
    schema: Data = json.loads((ROOT / f"docs/schemas/{name}.schema.json").read_text())
    return schema


SCHEMAS = {"forge": schema_of("forge"), "workflow": schema_of("workflow")}
MODELS: Mapping[str, type[BaseModel]] = {"forge": ConfigFile, "workflow": WorkflowFile}
VALIDATORS = {name: jsonschema_rs.Draft202012Validator(schema) for name, schema in SCHEMAS.items()}

WORKFLOW: Data = {
    "workflow": "review",
    "steps": [
        {
            "name": "grade",
            "model": "small",
            "prompt": "Grade {text}",
            "system": "You are brief.",
            "generate": {
                "max_new_tokens": 8,
                "temperature": 0.7,
                "top_p": 0.9,
                "top_k": 40,
                "repetition_penalty": 1.1,
                "seed": 2**63 - 1,
                "stop": ["##"],
            },
            "output": {
                "min_chars": 0,
                "max_chars": 400,
                "pattern": "[a-z]",
                "json_schema": {"type": "object", "$schema": "x", "required": ["a"]},
            },
            "retries": 2,
        },
        {
            "name": "rewrite",
            "model": "small",
            "prompt": "Rewrite",
            "output": {"one_of": ["a", "b"]},
            "needs": ["grade"],
            "when": {"step": "grade", "path": "a.0", "op": "in", "value": [1, "x", None]},
            "tolerate": True,
        },
    ],
}
SOURCES: Sequence[Data] = (
    {"source": "jsonl", "path": "x.jsonl", "key": "id", "name": "n", "max_record_bytes": 10},
    {"source": "csv", "path": "x.csv"},
    {"source": "parquet", "path": "x.parquet"},
    {"source": "sql", "url": "${DB}", "table": "t"},
    {"source": "sql", "url": "sqlite:///x.db", "query": "select 1"},
    {"source": "python_docstrings"},
)
MODEL_EXAMPLES: Mapping[str, Data] = {
    "local": {
        "source": "package:weights",
        "engine": "transformers",
        "dtype": "float32",
        "revision": "main",
        "device": "cuda:0",
        "max_context": 2048,
        "batching": "static",
        "max_batch": 8,
        "max_batch_tokens": 4096,
    },
    "a.server": {
        "source": "llama3.2",
        "engine": "openai_http",
        "url": "http://127.0.0.1:11434/v1",
        "api_key_env": "KEY",
        "timeout": 300,
    },
}
FORGE: Data = {
    "subjects": SOURCES[0],
    "models": MODEL_EXAMPLES,
    "workflows": ["flows/*.yaml"],
    "stages": [{"key": "canary-10", "subjects": 10, "workers": 2}],
    "batches": {"size": 5, "count": 0, "workers": None},
    "thresholds": {
        "rejection_rate": 0.1,
        "error_rate": 0,
        "success_rate": 1,
        "per_minute": 0.5,
        "per_minute_counts": "subjects",
        "seconds_per_interaction": 1.5,
    },
    "preflight": {
        "max_gpu_memory": 0.9,
        "max_db_connections": 0.5,
        "min_available_memory_gb": 1,
    },
    "retention": {"events": "90d", "samples": None},
    "gate_wait": "6h",
    "group_wait": 30,
    "cloud": {
        "project": "demo",
        "region": "europe-west4",
        "regions": ["europe-west4"],
        "staging_bucket": "gs://bucket/folder",
        "service_account": "jobs@demo.iam.gserviceaccount.com",
        "jobs": {
            "train": {
                "image": "us-docker.pkg.dev/p/r/train:v1",
                "command": ["python"],
                "args": ["-m", "train"],
                "env": {"EPOCHS": "3"},
                "machine": "g2-standard-12",
                "accelerator": "NVIDIA_L4",
                "accelerators": 1,
                "replicas": 2,
                "boot_disk_gb": 200,
                "scheduling": "flex-start",
                "max_wait": "2h",
                "timeout": "1 d",
                "region": "us-east1",
            }
        },
        "wandb": {"entity": "team", "project": "vision", "queue": "vertex"},
        "runner": {
            "job": "runner",
            "region": "us-east1",
            "image": "img",
            "service_account": "runner@demo.iam.gserviceaccount.com",
            "secret": "wandb-api-key",
            "idle_stop": "10m",
        },
    },
    "alerts": {"to": ["env:SLACK_URL"], "base_url": "http://host:3000", "warnings": False},
}
FORGES = tuple(FORGE | {"subjects": source} for source in SOURCES)


def faults(name: str, data: Any) -> set[str]:
    """The kinds of what the loader's model refuses; none when it takes the data."""
    try:
        MODELS[name].model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return {each["type"] for each in error.errors()}
    return set()


def refusals(name: str, data: Any) -> list[str]:
    return [error.message for error in VALIDATORS[name].iter_errors(data)]


# the schemas themselves


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema(name: str) -> None:
    jsonschema_rs.meta.validate(SCHEMAS[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_defaults_are_valid(name: str) -> None:
    schema = SCHEMAS[name]
    for definition in (schema, *schema["$defs"].values()):
        for key, field in definition["properties"].items():
            if "default" in field:
                within = {**field, "$defs": schema["$defs"]}
                assert jsonschema_rs.is_valid(within, field["default"]), key


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_examples_here_have_every_key(name: str) -> None:
    """What follows is only worth something when nothing is left out of it."""
    written = {key for data in (WORKFLOW, *FORGES) for key in keys_of(data)}
    schema = SCHEMAS[name]
    for definition in (schema, *schema["$defs"].values()):
        assert set(definition["properties"]) <= written


def keys_of(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        yield from data
    for inner in (
        data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    ):
        yield from keys_of(inner)


# files that the loader takes


@pytest.mark.parametrize("data", FORGES, ids=lambda data: data["subjects"]["source"])
def test_whole_configurations_are_valid(data: Data) -> None:
    assert faults("forge", data) == set()
    assert refusals("forge", data) == []


def test_a_whole_workflow_is_valid() -> None:
    assert faults("workflow", WORKFLOW) == set()
    assert refusals("workflow", WORKFLOW) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [(ROOT / "forge.yaml", "forge"), (ROOT / "workflows/api_review.yaml", "workflow")],
    ids=["forge.yaml", "api_review.yaml"],
)
def test_the_shipped_files_name_their_schema_and_are_valid(path: Path, name: str) -> None:
    found = MODELINE.match(path.read_text())
    assert found is not None
    assert (path.parent / found[1]).resolve() == ROOT / f"docs/schemas/{name}.schema.json"
    assert refusals(name, load_document(path).data) == []


def test_every_workflow_names_its_schema() -> None:
    for path in (ROOT / "workflows").glob("*.yaml"):
        assert MODELINE.match(path.read_text()), path.name


def examples() -> Iterator[tuple[str, str]]:
    """The YAML of the pages, in blocks and in here-documents, and of the tests."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        blocks = re.findall(r"^```yaml\n(.*?)^```", text, flags=re.S | re.M)
        blocks += re.findall(r"\.yaml <<'END'\n(.*?)^END$", text, flags=re.S | re.M)
        yield from ((f"{page.name} {number}", block) for number, block in enumerate(blocks))
    yield from (("smallest", SMALLEST), ("good", GOOD))


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in examples()])
def test_examples_are_valid(text: str) -> None:
    data = yaml.safe_load(text)
    if not isinstance(data, dict) or not {"workflow", *SCHEMAS["forge"]["properties"]} & set(data):
        pytest.skip("neither of the two files")
    if "workflow" in data:
        assert faults("workflow", data) == set()
        assert refusals("workflow", data) == []
        return
    whole = {"subjects": SOURCES[-1], "models": MODEL_EXAMPLES} | data
    assert faults("forge", whole) == set()
    assert refusals("forge", whole) == []


def test_hostile_workflows_that_load_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    taken = 0
    for name, content in workflow_inputs():
        path.write_bytes(content)
        try:
            load_workflow(path, ("m", "small"))
        except ConfigurationError:
            continue
        taken += 1
        assert refusals("workflow", load_document(path).data) == [], name
    assert taken > 50


# by chance

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-3, max_value=3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer()),
    st.text(max_size=5),
    st.sampled_from(
        ["", "6h", "spot", "auto", "cuda:1", "cuda:\u0661", "a", "batch-1", "gate", "x" * 101]
    ),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)


@st.composite
def changed(draw: st.DrawFn, whole: Data) -> Data:
    """The data with one to three values changed, keys taken away or added."""
    data = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(containers(data))))
        if isinstance(place, list):
            place[:] = (
                draw(st.lists(VALUES, max_size=3)) if not place else [*place[1:], draw(VALUES)]
            )
            continue
        key = draw(st.sampled_from([*place, "other", "source", "engine", "url", "max_wait"]))
        if draw(st.booleans()) and key in place:
            del place[key]
        else:
            place[key] = draw(VALUES)
    return data


def containers(data: Any) -> Iterator[Any]:
    if isinstance(data, dict | list):
        yield data
        for inner in data.values() if isinstance(data, dict) else data:
            yield from containers(inner)


def agree(name: str, data: Data) -> None:
    found = faults(name, data)
    refused = refusals(name, data)
    if not found:
        assert refused == []
    elif found & FORM:
        assert refused, found


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_changed_workflows(data: st.DataObject) -> None:
    agree("workflow", data.draw(changed(WORKFLOW)))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_changed_configurations(data: st.DataObject) -> None:
    agree("forge", data.draw(changed(data.draw(st.sampled_from(FORGES)))))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(alphabet="0159.smhd \t\n\u0661\x1c\x85-", max_size=6),
        st.from_regex(r"\s*[0-9]{1,4}(\.[0-9]{1,2})?\s*[smhd]\s*", fullmatch=True),
        st.integers(min_value=-2, max_value=400_000_000),
    )
)
def test_durations(value: str | int) -> None:
    data = yaml.safe_load(SMALLEST) | {"gate_wait": value}
    found = faults("forge", data)
    valid = refusals("forge", data) == []
    assert valid or found
    # A schema cannot reckon, and takes blanks for blanks that only Unicode calls so.
    if found - {"less_than_equal"} and str(value).isascii():
        assert not valid


# files that the loader refuses for their form


def wrong(name: str, *path: str | int, value: Any = ...) -> Any:
    """A whole file with one value changed, or taken away."""
    data = copy.deepcopy(WORKFLOW if name == "workflow" else FORGE)
    place: Any = data
    for part in path[:-1]:
        place = place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return pytest.param(name, data, id=f"{'.'.join(map(str, path))}={value}")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        wrong("workflow", "workflow"),
        wrong("workflow", "workflow", value="monitor"),
        wrong("workflow", "workflow", value="A-b"),
        wrong("workflow", "workflow", value="a" * 101),
        wrong("workflow", "steps"),
        wrong("workflow", "steps", value=[]),
        wrong("workflow", "step", value=[]),
        wrong("workflow", "steps", 0, "name", value="gate"),
        wrong("workflow", "steps", 0, "prompt"),
        wrong("workflow", "steps", 0, "prompts", value="x"),
        wrong("workflow", "steps", 0, "prompt", value=7),
        wrong("workflow", "steps", 0, "retries", value=1.5),
        wrong("workflow", "steps", 0, "retries", value=101),
        wrong("workflow", "steps", 0, "tolerate", value="yes"),
        wrong("workflow", "steps", 0, "generate", "temperature", value=-1),
        wrong("workflow", "steps", 0, "generate", "temprature", value=1),
        wrong("workflow", "steps", 0, "generate", "seed", value=2**63),
        wrong("workflow", "steps", 0, "generate", "stop", value="##"),
        wrong("workflow", "steps", 0, "output", value=None),
        wrong("workflow", "steps", 0, "output", "pattern", value=""),
        wrong("workflow", "steps", 1, "output", "one_of", value=[]),
        wrong("workflow", "steps", 1, "needs", value="grade"),
        wrong("workflow", "steps", 1, "when", "op", value="=<"),
        wrong("workflow", "steps", 1, "when", "value"),
        wrong("forge", "subjects"),
        wrong("forge", "models", value={}),
        wrong("forge", "workflows", value=[]),
        wrong("forge", "treshold", value={}),
        wrong("forge", "subjects", "source", value="json"),
        wrong("forge", "subjects", "source"),
        wrong("forge", "subjects", "table", value="t"),
        wrong("forge", "subjects", "path"),
        wrong("forge", "models", "a b", value={"source": "x"}),
        wrong("forge", "models", "local", "engine", value="ollama"),
        wrong("forge", "models", "a.server", "url"),
        wrong("forge", "models", "local", "device", value="gpu"),
        wrong("forge", "models", "local", "max_batch", value="8"),
        wrong("forge", "stages", 0, "key", value="batch-1"),
        wrong("forge", "stages", 0, "subjects", value=0),
        wrong("forge", "stages", 0, "workers", value=65),
        wrong("forge", "thresholds", "rejection_rate", value=15),
        wrong("forge", "thresholds", "per_minute_counts", value="rows"),
        wrong("forge", "gate_wait", value="6 hours"),
        wrong("forge", "retention", "events", value="-1d"),
        wrong("forge", "cloud", "regions", value=["us"]),
        wrong("forge", "cloud", "staging_bucket", value="bucket"),
        wrong("forge", "cloud", "jobs", "train", "image"),
        wrong("forge", "cloud", "jobs", "train", "scheduling", value="cheap"),
        wrong("forge", "cloud", "jobs", "train", "env", value={"A-B": "c"}),
        wrong("forge", "cloud", "jobs", "train", "env", value={"A": 3}),
        wrong("forge", "cloud", "wandb", "project"),
        wrong("forge", "cloud", "runner", "job", value="Bad_Name"),
        wrong("forge", "alerts", "to", value="env:SLACK_URL"),
        wrong("forge", "alerts", "warnings", value="no"),
    ],
)
def test_wrong_files_are_refused_by_both(name: str, data: Data) -> None:
    assert faults(name, data)
    assert refusals(name, data)


def test_a_need_that_stands_twice_is_refused_by_both(tmp_path: Path) -> None:
    """By a rule of the loader, not by its model."""
    data = copy.deepcopy(WORKFLOW)
    data["steps"][1]["needs"] *= 2
    path = tmp_path / "flow.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigurationError, match="stands here twice"):
        load_workflow(path, ("small",))
    assert refusals("workflow", data)
