"""A YAML file with the line of every value, so that an error names file, line and field."""

import json
import math
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from forge_assets.schema_errors import Location, describe, dotted, kind
from resources.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)

_MOST_VALUES = 100_000
"""Values in one file, aliases expanded: a larger file is a mistake or an alias bomb."""

_MOST_BYTES = 1_000_000
"""Of one file: PyYAML reads some 100,000 bytes a second."""
_MOST_LEVELS = 100
"""Far below the nesting at which what reads the values gives up."""
_MERGE = "tag:yaml.org,2002:merge"
_SHAPES = {"map": yaml.MappingNode, "seq": yaml.SequenceNode}

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{name}": name
    for name in ("null", "bool", "int", "float", "str", "seq", "map", "value")
}


class _Loader(yaml.SafeLoader):
    """SafeLoader, but dates stay text: JSON, which the store and the models speak, has none."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class YamlDocument:
    """The content of one file as JSON-like data, and where each value stands."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Location, int]

    def error(self, location: Location, message: str) -> ConfigurationError:
        """One sentence: file, line, field, what is wrong."""
        field = f"{dotted(location)}: " if location else ""
        return ConfigurationError(f"{shown(self.path)}:{self._line(location)}: {field}{message}")

    def validate(self, model: type[Model]) -> Model:
        """The document as a model; the first error becomes a ConfigurationError."""
        try:
            # As JSON, because strict mode then still takes lists for tuples and text for paths.
            return model.model_validate_json(json.dumps(self.data), strict=True)
        except ValidationError as error:
            location, message = describe(error, model, self.data)
        raise self.error(location, message)

    def _line(self, location: Location) -> int:
        """The line of the value, or of the nearest enclosing one that exists."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def load_document(path: Path) -> YamlDocument:
    """Read one YAML file whose top is a mapping; ConfigurationError when it is anything else."""
    text = _read(path)
    try:
        loader = _Loader(text)  # already reads, and refuses control characters
        node = loader.get_single_node()
        if node is None:
            raise ConfigurationError(f"{shown(path)}:1: the file is empty")
        reader = _Reader(path, loader)
        data = reader.value(node, ())
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(_broken(path, error)) from None
    if not isinstance(data, dict):
        raise ConfigurationError(
            f"{shown(path)}:1: the file should hold 'key: value' lines, it holds {kind(data)}"
        )
    return YamlDocument(path, data, reader.lines)


def shown(path: Path) -> str:
    """The path as an error names it: relative to the working folder where it lies below it."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def _read(path: Path) -> str:
    try:
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
            # A pipe may keep a reader waiting, a device may never end.
            raise ConfigurationError(f"{shown(path)}: is not a regular file")
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigurationError(f"{shown(path)}: has more than {_MOST_BYTES:,} bytes")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigurationError(f"{shown(path)}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{shown(path)}: is a folder, not a file") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{shown(path)}: is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{shown(path)}: cannot be read: {reason}") from None


def _broken(path: Path, error: Exception) -> str:
    """A sentence for a file that is not YAML."""
    if isinstance(error, RecursionError):
        return f"{shown(path)}: the YAML is nested too deep"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = " ".join((error.problem or error.context or "cannot be parsed").split())
        if problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        return f"{shown(path)}:{line}: broken YAML: {problem}"
    return f"{shown(path)}: broken YAML: {' '.join(str(error).split())}"


_Pairs = dict[str, tuple[yaml.Node, yaml.Node]]
"""Key -> the nodes of the key and its value."""


class _Reader:
    """Turns composed nodes into data, noting the line of each value and refusing duplicates."""

    def __init__(self, path: Path, loader: _Loader) -> None:
        self.lines: dict[Location, int] = {}
        self._path = path
        self._loader = loader
        self._open: set[int] = set()
        self._values = 0
        self._merged: dict[int, _Pairs] = {}

    def value(self, node: yaml.Node, location: Location) -> Any:
        self.lines.setdefault(location, node.start_mark.line + 1)
        self._count(1, node, location)
        if len(location) > _MOST_LEVELS:
            raise self._error(node, location, f"nested deeper than {_MOST_LEVELS} levels")
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if node.tag not in _PLAIN_TAGS and node.tag != _MERGE:
            raise self._error(node, location, f"unknown tag '{tag}'; put the value in quotes")
        if not isinstance(node, _SHAPES.get(tag, yaml.ScalarNode)):
            raise self._error(node, location, f"the tag '{tag}' does not fit; remove it")
        with self._opened(node, location):
            return self._construct(node, location)

    def _count(self, number: int, node: yaml.Node, location: Location) -> None:
        self._values += number
        if self._values > _MOST_VALUES:
            raise self._error(node, location, f"holds more than {_MOST_VALUES:,} values")

    @contextmanager
    def _opened(self, node: yaml.Node, location: Location) -> Iterator[None]:
        if id(node) in self._open:
            raise self._error(node, location, "an alias may not contain itself")
        self._open.add(id(node))
        yield
        self._open.discard(id(node))

    def _construct(self, node: yaml.Node, location: Location) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*location, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name, (key_node, value_node) in self._pairs(node, location).items():
            place = (*location, name)
            self.lines[place] = key_node.start_mark.line + 1
            data[name] = self.value(value_node, place)
        return data

    def _pairs(self, node: yaml.MappingNode, location: Location) -> _Pairs:
        """The keys of a mapping, those of ``<<: *anchor`` included; its own win, then the first.

        Instead of PyYAML's flatten_mapping, which lets merges of merges multiply before any limit.
        """
        if id(node) in self._merged:
            return self._merged[id(node)]
        self._refuse_duplicates(node, location)
        merged: _Pairs = {}
        own: _Pairs = {}
        for key_node, value_node in node.value:
            if key_node.tag != _MERGE:
                own[self._key(key_node, location)] = (key_node, value_node)
                continue
            is_list = isinstance(value_node, yaml.SequenceNode)
            for source in value_node.value if is_list else [value_node]:
                if not isinstance(source, yaml.MappingNode):
                    message = "'<<' takes a mapping or a list of mappings; correct it"
                    raise self._error(key_node, location, message)
                with self._opened(source, location):
                    pairs = self._pairs(source, location)
                self._count(1 + len(pairs), key_node, location)
                for name, pair in pairs.items():
                    merged.setdefault(name, pair)
        self._merged[id(node)] = {**merged, **own}
        return self._merged[id(node)]

    def _refuse_duplicates(self, node: yaml.MappingNode, location: Location) -> None:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            name = self._key(key_node, location)
            line = key_node.start_mark.line + 1
            if name in seen:
                message = f"the key stands here twice, first in line {seen[name]}; remove one"
                raise self._error(key_node, (*location, name), message)
            seen[name] = line

    def _key(self, node: yaml.Node, location: Location) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, location, "a key must be text, not a list or a mapping")
        self._refuse_surrogates(node, location)
        return str(node.value)

    def _refuse_surrogates(self, node: yaml.Node, location: Location) -> None:
        """YAML's escapes can write text that neither JSON nor a file can hold."""
        try:
            node.value.encode()
        except UnicodeEncodeError:
            message = "holds half of a surrogate pair, which is no text; remove it"
            raise self._error(node, location, message) from None

    def _scalar(self, node: yaml.Node, location: Location) -> Any:
        if node.tag in ("tag:yaml.org,2002:value", _MERGE):
            return node.value
        self._refuse_surrogates(node, location)
        try:
            data = self._loader.construct_object(node)
            if isinstance(data, int):
                str(data)  # hexadecimal ones may have more digits than Python writes
        except (ValueError, KeyError, IndexError, OverflowError):
            shown_value = node.value if len(node.value) <= 60 else f"{node.value[:57]}..."
            message = f"'{shown_value}' is no {_PLAIN_TAGS[node.tag]}; put it in quotes"
            raise self._error(node, location, message) from None
        if isinstance(data, float) and not math.isfinite(data):
            raise self._error(node, location, f"{node.value} is not a finite number")
        return data

    def _error(self, node: yaml.Node, location: Location, message: str) -> ConfigurationError:
        field = f"{dotted(location)}: " if location else ""
        line = node.start_mark.line + 1
        return ConfigurationError(f"{shown(self._path)}:{line}: {field}{message}")
