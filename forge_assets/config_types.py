"""Kinds of values in forge.yaml that more than one section has."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d)\s*", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _rate(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"should be from 0 to 1 (0.15 is 15 %), got {value:g}")
    return value


def _seconds(value: Any) -> Any:
    """'6h' -> 21600. Numbers are seconds; what is neither is left to pydantic."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(f"'{value}' is no duration; write seconds, or such as 90s, 30m, 6h, 1d")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def whole(pattern: re.Pattern[str], should_be: str, without: str = "") -> JsonDict:
    """Keywords of a JSON schema for text that matches from its beginning to its end.

    ``without``: a pattern of what is not taken all the same. Editors show the sentence; what only
    checks passes over it.
    """
    no = f"(?!{without})" if without else ""
    return {
        "pattern": f"^{no}(?:{pattern.pattern})$",
        "patternErrorMessage": f"Should be {should_be}.",
    }


@dataclass(frozen=True)
class Like:
    """Annotates text that matches a pattern from its beginning to its end.

    Editors are told the pattern when they read it as Python does: ``\\w`` also takes letters beyond
    ASCII here, and not there.
    """

    pattern: re.Pattern[str]
    should_be: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        if "\\w" in self.pattern.pattern:
            return handler(schema)
        return handler(schema) | whole(self.pattern, self.should_be)

    def _checked(self, value: str) -> str:
        if not self.pattern.fullmatch(value):
            raise ValueError(f"'{value}' should be {self.should_be}")
        return value


Rate = Annotated[
    float, AfterValidator(_rate), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})
]
_TEN_YEARS = 3650 * 86400.0
"""Of any duration: what is longer is a mistake, and the database refuses dates too far back."""
DURATION_SCHEMA: JsonDict = {
    "type": "string",
    **whole(_DURATION, "seconds, or such as 90s, 30m, 6h, 1d"),
}
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=_TEN_YEARS),
    WithJsonSchema(
        {"anyOf": [DURATION_SCHEMA, {"type": "number", "minimum": 0, "maximum": _TEN_YEARS}]}
    ),
]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
