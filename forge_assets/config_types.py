"""Kinds of values in forge.yaml that more than one section has."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _rate(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"should be from 0 to 1 (0.15 is 15 %), got {value:g}")
    return value


def _seconds(value: Any) -> Any:
    """'6h' -> 21600. Numbers are seconds; what is neither is left to pydantic."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"'{value}' is no duration; write seconds, or such as 90s, 30m, 6h, 1d")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


Rate = Annotated[float, AfterValidator(_rate)]
_TEN_YEARS = 3650 * 86400.0
"""Of any duration: what is longer is a mistake, and the database refuses dates too far back."""
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=_TEN_YEARS)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
