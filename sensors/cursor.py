"""What a sensor of cloud resources remembers from tick to tick: how far it read, what is not over."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, field_validator

AT_MOST = 500
"""Resources kept; the launches among those that are left out are still known by the store."""


class Known(BaseModel):
    """A resource as it was last seen. ``asked``: a diagnosis was requested, or none is needed."""

    model_config = ConfigDict(frozen=True)

    state: str
    created: AwareDatetime
    is_over: bool = False
    asked: bool = False


class Cursor(BaseModel):
    """``read_until``: by region, when it was last read whole. ``known``: by resource name."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1]
    read_until: Mapping[str, AwareDatetime] = {}
    known: Mapping[str, Known] = {}

    @field_validator("known")
    @classmethod
    def _has_a_region(cls, value: Mapping[str, Known]) -> Mapping[str, Known]:
        return {name: known for name, known in value.items() if "/locations/" in name}

    def text(self) -> str:
        return self.model_dump_json(exclude_defaults=True)

    def within(self, at_most: int = AT_MOST) -> "Cursor":
        """Without the oldest of too many resources, those that are over before all others."""
        if len(self.known) <= at_most:
            return self
        kept = sorted(self.known.items(), key=_importance, reverse=True)[:at_most]
        return self.model_copy(update={"known": dict(kept)})


def read_cursor(text: str | None) -> Cursor:
    """A new one for a text that is none, or of another version."""
    try:
        return Cursor.model_validate_json(text or "")
    except ValidationError:
        return Cursor(version=1)


def _importance(item: tuple[str, Known]) -> tuple[bool, datetime, str]:
    name, known = item
    return not (known.is_over and known.asked), known.created, name
