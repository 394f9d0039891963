"""docs/reference/forge-yaml.md."""

from forge_assets.reference.sections import NOTE, Schema, Section, Sections

_SECTIONS = (
    Section("The file", ""),
    Section(
        "subjects",
        None,
        more="`source` chooses the kind of the source, which has keys of its own. How records are"
        " read: [subjects](../workflows.md#subjects).",
    ),
    Section("jsonl", "JsonlSource", level=3),
    Section("csv", "CsvSource", level=3),
    Section("parquet", "ParquetSource", level=3),
    Section("sql", "SqlSource", level=3),
    Section("python_docstrings", "PythonDocstringsSource", level=3),
    Section(
        "models",
        "ModelConfig",
        more="Weights are converted once to safetensors, into `FORGE_CACHE`. How to use"
        " [a server](../workflows.md#a-model-at-a-server) or"
        " [vLLM](../workflows.md#a-model-in-vllm).",
    ),
    Section("stages", "StageSpec"),
    Section("batches", "BatchSpec"),
    Section("thresholds", "Thresholds"),
    Section("preflight", "PreflightLimits"),
    Section("retention", "Retention"),
    Section("cloud", "CloudConfig", more="How to launch: [launches](../launches.md#first-launch)."),
    Section("jobs", "JobSpec", level=3),
    Section("wandb", "WandbSpec", level=3),
    Section(
        "runner",
        "RunnerSpec",
        level=3,
        more="What it does: [the runner](../launches.md#the-runner).",
    ),
    Section("alerts", "AlertsConfig", more="How they are sent: [alerts](../workflows.md#alerts)."),
)
_TOP = f"""\
{NOTE}

# forge.yaml: reference

Every key of `forge.yaml`, its type, its default and what it means. `FORGE_CONFIG` names the file, else it is
`forge.yaml` in the checkout. Paths in it are relative to it. A duration is a number of seconds, or such as
`90s`, `30m`, `6h`, `1d`. An unknown key is refused, with file, line, field and the known keys. Editors
complete and check these keys by `docs/schemas/forge.schema.json`
([your editor](../workflows.md#your-editor)).
"""


def forge_yaml_page(schema: Schema) -> str:
    return f"{_TOP}\n{Sections(schema, _SECTIONS)}\n"
