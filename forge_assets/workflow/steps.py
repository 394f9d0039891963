"""The nouns of a workflow file: a step, how it generates, what its output must be, when it runs."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import regex
from jsonschema_rs import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator
from pydantic.config import JsonDict

from forge_assets.config_types import whole
from forge_assets.workflow.graph import Graph
from forge_assets.workflow.json_schema import compile_schema
from forge_assets.workflow.schema_walk import decoding_fault, recursive_alternatives
from forge_assets.yaml_document import YamlDocument
from resources.subject_record import MAX_NAME, name_text

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains"]

NAME = re.compile(r"[a-z][a-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
"""Control characters but tab and line feed: no model can say them."""
_MOST_PATTERN = 10_000
"""Characters of a pattern: compiling one of a megabyte takes a minute."""
RESERVED_STEPS = ("gate", "results")
"""Assets of every workflow beside its steps."""
RESERVED_WORKFLOWS = ("launches", "model_weights", "monitor", "subjects")
"""Assets that do not belong to a workflow."""


def _name_schema(reserved: tuple[str, ...]) -> JsonDict:
    """What a JSON schema can say of a name; the loader's words are `_plain`'s."""
    form = "a lower case letter, then lower case letters, digits and _"
    return {
        "maxLength": MAX_NAME,
        **whole(NAME, f"{form}; not {', '.join(reserved)}", without=f"(?:{'|'.join(reserved)})$"),
    }


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GenerateParams(_Section):
    """How the model continues the prompt."""

    max_new_tokens: int = Field(
        default=128, gt=0, le=1_000_000, description="Most tokens of the answer."
    )
    temperature: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="0 takes the likeliest token each time; else at least 0.01.",
    )
    top_p: float = Field(
        default=1.0,
        ge=0.001,
        le=1,
        description="Sample from the likeliest tokens that make up this share.",
    )
    top_k: int = Field(default=0, ge=0, description="Sample from so many tokens; 0 keeps all.")
    repetition_penalty: float = Field(
        default=1.0,
        ge=0.01,
        le=100,
        description="Above 1 makes tokens that already stand there less likely.",
    )
    seed: int = Field(
        default=7,
        ge=0,
        lt=2**63,
        description="Start of the row's own chance; no effect at temperature 0.",
    )
    stop: tuple[str, ...] = Field(
        default=(), description="The answer ends before the first of these texts."
    )

    @field_validator("temperature")
    @classmethod
    def _divides(cls, value: float) -> float:
        if 0 < value < 0.01:
            raise ValueError(f"{value} is too small to divide by; write 0 or at least 0.01")
        return value

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("an empty text would stop at once; remove it")
        return value


class OutputContract(_Section):
    """What an answer must be to count as completed. It is judged on the answer without surrounding
    blanks, after it was generated, always. `json_schema` and `one_of` are also enforced while the
    model decodes: only tokens that can still fit are allowed."""

    min_chars: int = Field(
        default=1, ge=0, description="Fewest characters; 0 accepts an empty answer."
    )
    max_chars: int | None = Field(default=None, ge=1, description="Most characters.")
    pattern: str | None = Field(
        default=None,
        min_length=1,
        json_schema_extra={"maxLength": _MOST_PATTERN},
        description="Regular expression (Python package `regex`), searched anywhere; anchor it with"
        " `\\A` and `\\Z`. 10,000 characters at most. Over one second on an answer refuses it.",
    )
    json_schema: dict[str, Any] | None = Field(
        default=None,
        description="JSON schema, draft 2020-12. References outside the schema are refused; `format`"
        " is a note and checks nothing. A `pattern` in it cannot look ahead or behind or refer back"
        " (`\\1`): it is matched in linear time. A `$ref` must not lead back to itself on the same"
        " value.",
    )
    one_of: tuple[str, ...] | None = Field(
        default=None,
        json_schema_extra={"minItems": 1},
        description="The answer is exactly one of these, without control characters. Stands alone:"
        " the other keys would add nothing.",
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if len(value or "") > _MOST_PATTERN:
            raise ValueError(f"has {len(value or ''):,} characters; at most {_MOST_PATTERN:,}")
        try:
            regex.compile(value or "")
        except RecursionError:
            raise ValueError("is nested too deep for a regular expression; simplify it") from None
        except (regex.error, ValueError, OverflowError, MemoryError) as error:
            reason = str(error) or "it is too large"
            raise ValueError(f"is no regular expression: {reason}") from None
        return value

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            fault = decoding_fault(value)
            if fault is not None:
                raise ValueError(fault)
            compile_schema(value)
        return value

    @field_validator("one_of")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        if not value:
            raise ValueError("is empty; list the texts to choose from")
        counts = Counter(value)
        for choice in value:
            if not choice or choice != choice.strip():
                raise ValueError(f"'{choice}' is empty or has blanks around it; remove them")
            if _CONTROL.search(choice):
                raise ValueError(f"{choice!r} holds a control character; remove it")
            if counts[choice] > 1:
                raise ValueError(f"'{choice}' stands here twice; remove one")
        return value

    @model_validator(mode="after")
    def _agree(self) -> "OutputContract":
        if self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(
                f"min_chars {self.min_chars} is more than max_chars {self.max_chars}; no text fits"
            )
        if self.one_of is not None and (others := self.model_fields_set - {"one_of"}):
            raise ValueError(f"one_of fixes the whole text; remove {', '.join(sorted(others))}")
        return self

    @property
    def structured(self) -> bool:
        """Whether an accepted output has a parsed value."""
        return self.json_schema is not None or self.one_of is not None

    @cached_property
    def compiled_pattern(self) -> "regex.Pattern[str] | None":
        return regex.compile(self.pattern) if self.pattern else None

    @cached_property
    def alternatives(self) -> int:
        """The longest anyOf or oneOf of a recursive schema; 0 of another one."""
        return recursive_alternatives(self.json_schema or {})

    @cached_property
    def validator(self) -> Draft202012Validator | None:
        """Checks the parsed value."""
        return compile_schema(self.json_schema) if self.json_schema is not None else None


class When(_Section):
    """A branch: the step runs only when the answer of an earlier step meets this condition."""

    step: str = Field(description="An earlier step with a `json_schema` or `one_of`.")
    path: str = Field(
        default="",
        description="Into its parsed answer, dotted, list positions as numbers; empty is the whole"
        " answer.",
    )
    op: Operator = Field(description="How the answer is compared with `value`.")
    value: JsonValue = Field(
        description="What to compare with: a list for `in`, a number or text for the orderings."
    )

    @field_validator("path")
    @classmethod
    def _parts(cls, value: str) -> str:
        if value and "" in value.split("."):
            raise ValueError(f"'{value}' has an empty part; write names with single dots between")
        return value

    @model_validator(mode="after")
    def _suits(self) -> "When":
        if self.op == "in" and not (isinstance(self.value, list) and self.value):
            raise ValueError("op 'in' needs a list as value, such as [1, 2]")
        if self.op in ("<", "<=", ">", ">=") and (
            isinstance(self.value, bool) or not isinstance(self.value, int | float | str)
        ):
            raise ValueError(f"op '{self.op}' needs a number or a text as value")
        return self


class Step(_Section):
    """One prompt, one model, one contract. Each step is one asset `WORKFLOW/STEP` and one interaction
    for every subject."""

    name: str = Field(
        json_schema_extra=_name_schema(RESERVED_STEPS),
        description="Like the workflow's name, unique in the file; not `gate`, `results`.",
    )
    model: str = Field(description="A key of `models` in forge.yaml.")
    prompt: str = Field(
        description="Template of the user's message. Put the fixed text first: prompts with a common"
        " beginning compute it once."
    )
    system: str | None = Field(
        default=None,
        description="Template of the system message; set before the prompt where the model has no"
        " chat template.",
    )
    generate: GenerateParams = Field(
        default=GenerateParams(), description="How the model continues."
    )
    output: OutputContract = Field(
        default=OutputContract(), description="The contract that the answer must keep."
    )
    needs: tuple[str, ...] = Field(
        default=(),
        json_schema_extra={"uniqueItems": True},
        description="Steps that must have ended before. A step without needs is a root.",
    )
    when: When | None = Field(
        default=None,
        description="Condition on an earlier answer; not met, the step is skipped.",
    )
    retries: int = Field(default=0, ge=0, le=100, description="Further attempts after the first.")
    tolerate: bool = Field(
        default=False,
        description="Run although a need was rejected, failed or lost an ancestor; its names are then"
        " empty.",
    )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return _plain("step", value, RESERVED_STEPS)

    @field_validator("prompt", "system")
    @classmethod
    def _has_text(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty; write what the model is asked")
        return value


class WorkflowFile(_Section):
    """The steps that every subject goes through."""

    workflow: str = Field(
        json_schema_extra=_name_schema(RESERVED_WORKFLOWS),
        description="Name; first part of its asset keys. A lower case letter, then lower case"
        " letters, digits and `_`, 100 at most; not `launches`, `model_weights`, `monitor`,"
        " `subjects`.",
    )
    steps: tuple[Step, ...] = Field(
        json_schema_extra={"minItems": 1}, description="At least one step, in any order."
    )

    @field_validator("workflow")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        return _plain("workflow", value, RESERVED_WORKFLOWS)

    @field_validator("steps")
    @classmethod
    def _some(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        if not value:
            raise ValueError("is empty; a workflow has at least one step")
        return value


@dataclass(frozen=True)
class Workflow:
    """A checked workflow. Steps stand in the order of the file."""

    name: str
    steps: tuple[Step, ...]
    path: Path = field(default=Path(), compare=False)
    document: YamlDocument = field(default=YamlDocument(Path(), {}, {}), compare=False, repr=False)
    """The file, for an error that is found only with the subjects."""

    @cached_property
    def by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    @cached_property
    def graph(self) -> Graph:
        return Graph({step.name: step.needs for step in self.steps})

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


def _plain(noun: str, value: str, reserved: tuple[str, ...]) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            f"'{value}' is no {noun} name; "
            "begin with a lower case letter, then lower case letters, digits and _"
        )
    if value in reserved:
        raise ValueError(f"'{value}' is a name of the pipeline itself; choose another")
    return name_text(value)
