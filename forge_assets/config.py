"""forge.yaml: what the project works on, with which models, in which stages, under which limits."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from forge_assets.alerts_config import AlertsConfig
from forge_assets.cloud_config import CloudConfig
from forge_assets.config_paths import no_home, resolved_model, resolved_subjects, workflow_paths
from forge_assets.config_types import Rate, Seconds, Section, whole
from forge_assets.schema_errors import dotted
from forge_assets.workflow.spec import Workflow, load_workflow
from forge_assets.yaml_document import YamlDocument, load_document, shown
from resources.errors import ConfigurationError
from resources.gpu.model_config import ModelConfig
from resources.source_url import parse_url, shown_url
from resources.subject_record import MAX_NAME, name_text
from resources.subject_sources import PythonDocstringsSource, SqlSource, SubjectSource

BATCH_PREFIX = "batch-"
MAX_SUBJECTS = 2_000_000_000
"""Where the last stage may end: an ordinal is a 32-bit integer in the database."""
MAX_WORKERS = 64
MAX_DATASET_BYTES = 1000
"""With a subject's key it stands in an index, whose rows PostgreSQL limits to about 2,700 bytes."""

_PARTITION_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_MODEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _model_key(value: str) -> str:
    if not _MODEL_KEY.fullmatch(value):
        raise ValueError("is no model name; use letters, digits, '.', '_' and '-'")
    return name_text(value)


ModelKey = Annotated[
    str,
    AfterValidator(_model_key),
    Field(json_schema_extra=whole(_MODEL_KEY, "letters, digits, '.', '_' and '-'")),
]
Workers = Annotated[int, Field(ge=1, le=MAX_WORKERS)]


class StageSpec(Section):
    """A named stage of the roll-out; it takes the subjects after those of the stage before."""

    key: str = Field(
        json_schema_extra={
            "maxLength": MAX_NAME,
            **whole(
                _PARTITION_KEY,
                f"letters, digits, '-' and '_', not beginning with {BATCH_PREFIX}",
                without=BATCH_PREFIX,
            ),
        },
        description="Partition key: letters, digits, `-` and `_`; 100 at most, not beginning with"
        f" `{BATCH_PREFIX}`.",
    )
    subjects: int = Field(
        gt=0,
        le=100_000_000,
        description="How many subjects, after those of the stage before.",
    )
    workers: Workers | None = Field(
        default=None,
        description="How many workers share what servers do in this stage; 5 when absent."
        " `--workers` goes before it. Models of this machine have one.",
    )

    @field_validator("key")
    @classmethod
    def _partition_key(cls, value: str) -> str:
        if not _PARTITION_KEY.fullmatch(value):
            raise ValueError(f"'{value}' is no stage key; use letters, digits, '-' and '_'")
        if value.startswith(BATCH_PREFIX):
            raise ValueError(f"'{value}' collides with the batches; begin with something else")
        return name_text(value)


class BatchSpec(Section):
    """The steady batches after the named stages: `batch-0001`, `batch-0002` and so on."""

    size: int = Field(default=500, gt=0, le=100_000_000, description="Subjects of one batch.")
    count: int = Field(
        default=200,
        ge=0,
        le=10_000,
        description="How many batches. The last may end at subject 2,000,000,000.",
    )
    workers: Workers | None = Field(default=None, description="As of a stage.")


class Thresholds(Section):
    """What the checks hold a stage to. Rates are shares of what was attempted (completed + rejected
    + failed), from 0 to 1. A stage with nothing attempted fails."""

    rejection_rate: Rate = Field(
        default=0.15, description="Rejected must stay below; so 0 never passes."
    )
    error_rate: Rate = Field(default=0.05, description="Failed must stay below; so 0 never passes.")
    success_rate: Rate = Field(default=0.85, description="Completed should stay above; only warns.")
    per_minute: float = Field(
        default=80,
        ge=0,
        description="Finished per minute of working time, at least; model loads count as work, time"
        " without a run does not.",
    )
    per_minute_counts: Literal["interactions", "subjects"] = Field(
        default="interactions", description="What is counted for `per_minute`."
    )
    seconds_per_interaction: float | None = Field(
        default=None, gt=0, description="A target that the report shows; no check."
    )


class PreflightLimits(Section):
    """Limits of the machine. A run does not start beyond these, and ends when one stays broken for
    ten seconds."""

    max_gpu_memory: Rate = Field(default=0.95, description="Share of a GPU's memory in use.")
    max_db_connections: Rate = Field(
        default=0.80, description="Share of the database's connections in use."
    )
    min_available_memory_gb: float = Field(
        default=4, ge=0, description="Memory that must be available, in GB."
    )


class Retention(Section):
    """How long the store keeps what no result depends on. Looked at when `results` of a stage are
    made: at most 100,000 rows of each kind are removed then, oldest first, the others later.
    Interactions, their results and the event of their end are never removed."""

    events: Seconds | None = Field(
        default=None,
        description="How long what happened to an interaction on its way (claimed, tried again,"
        " refused) is kept after it ended or was replaced. Without it for ever.",
    )
    samples: Seconds | None = Field(
        default=30 * 86400.0,
        description="How long readings of the machine are kept: 30 days; `null` is for ever. Reports"
        " of older runs lack them.",
    )


class ConfigFile(Section):
    """What the project works on, with which models, in which stages, under which limits."""

    subjects: SubjectSource = Field(description="Where the subjects come from.")
    models: dict[ModelKey, ModelConfig] = Field(
        json_schema_extra={"minProperties": 1},
        description="The models by the name that steps use, at least one. Names have letters,"
        " digits, `.`, `_` and `-`, 100 at most.",
    )
    workflows: tuple[str, ...] = Field(
        default=("workflows/*.yaml",),
        json_schema_extra={"minItems": 1},
        description="Workflow files or patterns; each must match.",
    )
    stages: tuple[StageSpec, ...] = Field(
        default=(
            StageSpec(key="canary-10", subjects=10),
            StageSpec(key="ramp-50", subjects=50),
            StageSpec(key="full-500", subjects=500),
        ),
        description="The roll-out, stage by stage: 10, 50 and 500 subjects when absent.",
    )
    batches: BatchSpec = Field(default=BatchSpec(), description="What follows the stages.")
    thresholds: Thresholds = Field(
        default=Thresholds(), description="What the checks hold a stage to."
    )
    preflight: PreflightLimits = Field(
        default=PreflightLimits(), description="Limits of the machine."
    )
    retention: Retention = Field(default=Retention(), description="What the store forgets.")
    gate_wait: Seconds = Field(
        default=6 * 3600.0,
        description="How long a run waits at its gate for the stage before: a number of seconds, or"
        " such as `90s`, `30m`, `6h`, `1d`.",
    )
    group_wait: Seconds = Field(
        default=600.0,
        description="How long ready work of one model waits while another model still has work: then"
        " the models take turns. Looked at between calls of an engine, of at most four batches each.",
    )
    cloud: CloudConfig | None = Field(
        default=None,
        description="Where jobs are launched. Without it launches and the monitor say so.",
    )
    alerts: AlertsConfig = Field(
        default=AlertsConfig(), description="Who is told of failures, and how."
    )

    @field_validator("models", "workflows")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if not value:
            raise ValueError("is empty; name at least one")
        return value


@dataclass(frozen=True)
class ForgeConfig:
    """forge.yaml with every path resolved against the file's folder."""

    path: Path
    subjects: SubjectSource
    models: dict[str, ModelConfig]
    workflows: tuple[Path, ...]
    stages: tuple[StageSpec, ...]
    batches: BatchSpec
    thresholds: Thresholds
    preflight: PreflightLimits
    retention: Retention
    gate_wait: float
    """Seconds that a run waits at its gate for the stage before."""
    group_wait: float
    """Seconds that a model's ready work waits for another model before that one gives way."""
    cloud: CloudConfig | None
    """None without the section: launches and the monitor say so."""
    alerts: AlertsConfig
    model_definitions: dict[str, dict[str, Any]]
    """What each model is, as written, for step versions: without what only changes the speed."""

    @cached_property
    def dataset(self) -> str:
        """The identity of the subject source: ``subjects.name``, else the source and its place."""
        source = self.subjects
        if source.name is not None:
            return source.name
        if isinstance(source, PythonDocstringsSource):
            return source.source
        if isinstance(source, SqlSource):
            return f"sql:{_place(source)}:{_rows(source)}"
        return f"{source.source}:{source.path}"


def project_root() -> Path:
    """The folder that holds the forge_assets package, forge.yaml and dagster.yaml."""
    return Path(__file__).resolve().parent.parent


def config_path() -> Path:
    """FORGE_CONFIG, else forge.yaml in the project's root."""
    named = os.environ.get("FORGE_CONFIG")
    if not named:
        return project_root() / "forge.yaml"
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        raise ConfigurationError(f"FORGE_CONFIG: {no_home(named)}") from None


def load_config(path: Path | None = None) -> ForgeConfig:
    """Read forge.yaml. ConfigurationError, one sentence, for the first fault found."""
    document = load_document(config_path() if path is None else path)
    content = document.validate(ConfigFile)
    _check_stages(document, content)
    folder = document.path.absolute().parent
    config = ForgeConfig(
        path=document.path.absolute(),
        subjects=resolved_subjects(document, content.subjects, folder),
        models={
            key: resolved_model(document, key, model, folder)
            for key, model in content.models.items()
        },
        workflows=workflow_paths(document, content.workflows, folder),
        stages=content.stages,
        batches=content.batches,
        thresholds=content.thresholds,
        preflight=content.preflight,
        retention=content.retention,
        gate_wait=content.gate_wait,
        group_wait=content.group_wait,
        cloud=content.cloud,
        alerts=content.alerts,
        model_definitions={key: _definition(model) for key, model in content.models.items()},
    )
    if len(config.dataset.encode()) > MAX_DATASET_BYTES:
        message = f"its place has more than {MAX_DATASET_BYTES} bytes; give it a subjects.name"
        raise document.error(("subjects",), message)
    return config


def load_workflows(config: ForgeConfig) -> tuple[Workflow, ...]:
    """Read every workflow that forge.yaml names. ConfigurationError when two have one name."""
    found: dict[str, Workflow] = {}
    for path in config.workflows:
        workflow = load_workflow(path, config.models)
        if workflow.name in found:
            raise ConfigurationError(
                f"{shown(path)}:1: workflow: '{workflow.name}' is already the name of the workflow "
                f"in {shown(found[workflow.name].path)}; rename one"
            )
        found[workflow.name] = workflow
    return tuple(found.values())


def _check_stages(document: YamlDocument, content: ConfigFile) -> None:
    seen: list[str] = []
    for position, stage in enumerate(content.stages):
        if stage.key in seen:
            location = ("stages", position, "key")
            other = dotted(("stages", seen.index(stage.key)))
            raise document.error(
                location, f"'{stage.key}' is already the key of {other}; rename one"
            )
        seen.append(stage.key)
    if not content.stages and not content.batches.count:
        raise document.error(
            ("stages",), "is empty and batches.count is 0; there is nothing to run"
        )
    end = sum(stage.subjects for stage in content.stages)
    if end > MAX_SUBJECTS:
        message = f"the stages take {end:,} subjects; there can be {MAX_SUBJECTS:,}"
        raise document.error(("stages",), message)
    batches = content.batches
    if end + batches.size * batches.count > MAX_SUBJECTS:
        raise document.error(
            ("batches",),
            f"{batches.count:,} batches of {batches.size:,} after the stages end at subject"
            f" {end + batches.size * batches.count:,}; there can be {MAX_SUBJECTS:,}:"
            " lower size or count",
        )


def _definition(model: ModelConfig) -> dict[str, Any]:
    """What is asked for, without how it is got and how fast: what step versions are made of.

    The form is fixed: another one would make every finished result stale. ``engine`` and ``batching``
    were once part of it, with these values.
    """
    if model.served:
        return {"source": model.source, "url": model.url}
    return {
        "source": model.source,
        "engine": "transformers",
        "batching": "auto",
        "dtype": model.dtype,
        "revision": model.revision,
        "max_context": model.max_context,
    }


def _place(source: SqlSource) -> str:
    """The database, or the variable that names it: without what may be secret."""
    return source.url if source.from_environment else shown_url(parse_url(source.url))


def _rows(source: SqlSource) -> str:
    """The table, or a short hash of the query."""
    if source.table is not None:
        return source.table
    return "query-" + hashlib.sha256((source.query or "").encode()).hexdigest()[:12]
