"""Tables of a section's keys, from the JSON schema of the file."""

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from forge_assets.config_types import DURATION_SCHEMA

Schema = Mapping[str, Any]

NOTE = "<!-- Made from the code by `make reference`: change the code, not this page. -->"
_LONGEST_DEFAULT = 40
_LARGEST = 2**53
"""From here on a limit is the machine's and not worth a word."""
_WIDTH = 110
_UNITS = {"d": 86400, "h": 3600, "m": 60}


@dataclass(frozen=True)
class Section:
    """A part of the file with a heading of its own.

    ``definition``: its name in ``$defs``, "" the file itself, None has no keys of its own.
    ``more``: Markdown below its description.
    """

    heading: str
    definition: str | None
    level: int = 2
    more: str = ""

    @property
    def anchor(self) -> str:
        return self.heading.lower().replace(" ", "-")


class Sections:
    """The sections of one file. Each definition of the schema needs one: KeyError else."""

    def __init__(self, schema: Schema, sections: Iterable[Section]) -> None:
        self._schema = schema
        self._sections = tuple(sections)
        self._anchors = {each.definition: each.anchor for each in self._sections}

    def __str__(self) -> str:
        return "\n\n".join(self._section(each) for each in self._sections)

    def _section(self, section: Section) -> str:
        heading, more = f"{'#' * section.level} {section.heading}", paragraph(section.more)
        if section.definition is None:
            return f"{heading}\n\n{more}"
        definition = self._definition(section.definition)
        parts = [heading, paragraph(definition["description"]), more, self._table(definition)]
        parts += [
            f"When `{key}` is absent:\n\n```yaml\n{_block({key: field['default']})}```"
            for key, field in definition["properties"].items()
            if _long(field)
        ]
        return "\n\n".join(filter(None, parts))

    def _table(self, definition: Schema) -> str:
        required = definition.get("required", ())
        # What chooses the kind of a section stands first.
        fields = sorted(definition["properties"].items(), key=lambda each: "const" not in each[1])
        rows = [
            (
                f"`{key}`",
                self._type(field),
                _default(field, key in required),
                field["description"],
            )
            for key, field in fields
        ]
        return table(("key", "type", "default", "meaning"), rows)

    def _definition(self, name: str) -> Schema:
        found: Schema = self._schema["$defs"][name] if name else self._schema
        return found

    def _type(self, field: Schema) -> str:
        """What may be written, in words; a section as a link."""
        members = _members(field)
        if len(members) > 1:
            if all("$ref" in each for each in members):
                return "mapping: " + ", ".join(map(self._link, members))
            return "seconds or duration" if DURATION_SCHEMA in members else self._either(members)
        (field,) = members
        if "$ref" in field:
            return f"mapping: {self._link(field)}"
        if "const" in field:
            return f"`{field['const']}`"
        if "enum" in field:
            return ", ".join(f"`{choice}`" for choice in field["enum"])
        return self._of_kind(field)

    def _either(self, members: Iterable[Schema]) -> str:
        return " or ".join(map(self._type, members))

    def _of_kind(self, field: Schema) -> str:
        match field.get("type"):
            case "array":
                return f"list of {self._inner(field['items'])}"
            case "object":
                inner = next(iter(field.get("patternProperties", {}).values()), None)
                return "mapping" if inner is None else f"mapping: name → {self._inner(inner)}"
            case "string":
                return "text"
            case "boolean":
                return "true or false"
            case "integer":
                return f"whole number{_range(field)}"
            case "number":
                return f"number{_range(field)}"
        return "any"

    def _inner(self, field: Schema) -> str:
        return self._link(field) if "$ref" in field else self._type(field)

    def _link(self, reference: Schema) -> str:
        anchor = self._anchors[reference["$ref"].removeprefix("#/$defs/")]
        return f"[{anchor}](#{anchor})"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown, with bars in cells escaped."""
    lines = [list(headings)]
    lines.append(["---"] * len(lines[0]))
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraph(text: str) -> str:
    """In lines of limited length; no line ends within inline code."""
    kept = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\0"), text)
    lines = textwrap.fill(kept, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")


def _members(field: Schema) -> list[Schema]:
    """What a value may be, without nothing."""
    union = field.get("oneOf", field.get("anyOf", [field]))
    return [each for each in union if each != {"type": "null"}]


def _range(field: Schema) -> str:
    low, above, high = (field.get(k) for k in ("minimum", "exclusiveMinimum", "maximum"))
    below = "" if high is None or high >= _LARGEST else f"{high:,}"
    if above is not None:
        return f", above {above:,}" + (f", up to {below}" if below else "")
    if low is None:
        return f", up to {below}" if below else ""
    return f", {low:,} to {below}" if below else f", from {low:,}"


def _default(field: Schema, required: bool) -> str:
    if required:
        return "required"
    if "default" not in field:
        return "see there" if "$ref" in field else "none"
    if _long(field):
        return "see below"
    value = field["default"]
    return f"`{_duration(value) if DURATION_SCHEMA in _members(field) else _flow(value)}`"


def _long(field: Schema) -> bool:
    return "default" in field and len(_flow(field["default"])) > _LONGEST_DEFAULT


def _duration(seconds: float) -> str:
    """21600 -> 6h"""
    for unit, length in _UNITS.items():
        if seconds and seconds % length == 0:
            return f"{seconds // length:g}{unit}"
    return f"{seconds:g}s"


def _flow(value: Any) -> str:
    """As it is written in the file, on one line."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _block(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=None, sort_keys=False, width=_WIDTH - 20)
