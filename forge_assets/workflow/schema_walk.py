"""Schemas that no model can be held to, found by walking their parts before anything runs."""

import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

_DATA = frozenset({"const", "enum", "default", "examples"})
"""Keywords whose values are no schemas."""
_MOST_CHECKS = 10_000
_REFERENCES = ("$ref", "$dynamicRef")
_SAME_VALUE_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_VALUE = ("not", "if", "then", "else")
"""Keywords that put further schemas on the same value, like a $ref; others go into its parts."""
_LOOKAROUND = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|(?P<around>\(\?<?[=!])", re.DOTALL)


def decoding_fault(schema: dict[str, Any]) -> str | None:
    """What makes it impossible to hold a model to the schema while it decodes, or None."""
    if any("\0" in text for text in _texts(schema)):
        return "holds a NUL character (\\u0000), which no answer can keep; remove it"
    for node in _nodes(schema):
        pattern = node.get("pattern")
        named = node.get("patternProperties")
        for text in [pattern, *(named if isinstance(named, dict) else ())]:
            if isinstance(text, str) and _has_lookaround(text):
                return (
                    f"the pattern '{text}' looks ahead or behind, which the answer cannot be held"
                    " to; write it without (?=, (?!, (?<= and (?<!"
                )
    circle = _circle(schema)
    if circle is not None:
        return (
            f"the $ref '{circle}' leads back to itself without going into a property or an item,"
            " so it never ends; remove it"
        )
    if _checks_of_one_value(schema) > _MOST_CHECKS:
        return f"asks for more than {_MOST_CHECKS:,} checks of one value; simplify its references"
    return None


def recursive_alternatives(schema: dict[str, Any]) -> int:
    """The length of the longest anyOf or oneOf when a $ref leads back to itself, else 0."""
    nodes = list(_nodes(schema))
    anchors = _anchors(nodes)
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for node in nodes:
        below = [other for other in _nodes(list(node.values())) if other is not node]
        targets = [_target(node.get(key), schema, anchors) for key in _REFERENCES]
        sorter.add(id(node), *(id(part) for part in [*below, *targets] if isinstance(part, dict)))
    try:
        sorter.prepare()
    except CycleError:
        lists = [node.get(key) for node in nodes for key in ("anyOf", "oneOf")]
        return max((len(one) for one in lists if isinstance(one, list)), default=0)
    return 0


def _has_lookaround(pattern: str) -> bool:
    return any(match["around"] for match in _LOOKAROUND.finditer(pattern))


def _texts(value: Any) -> Iterator[str]:
    """Every name and text below."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting.extend((*part, *part.values()))
        elif isinstance(part, list):
            waiting.extend(part)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping below, data left out."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(part for key, part in node.items() if key not in _DATA)
        elif isinstance(node, list):
            waiting.extend(node)


def _circle(schema: dict[str, Any]) -> str | None:
    """A $ref that comes back to its own schema on the same value."""
    nodes = {id(node): node for node in _nodes(schema)}
    anchors = _anchors(nodes.values())
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, node in nodes.items():
        sorter.add(number, *(id(other) for other in _on_same_value(node, schema, anchors)))
    try:
        sorter.prepare()
    except CycleError as error:
        around = [nodes.get(number, {}) for number in error.args[1]]
        return next((str(node[key]) for node in around for key in _REFERENCES if key in node), None)
    return None


def _checks_of_one_value(schema: dict[str, Any]) -> int:
    """How many schemas one value is checked against when none of them fails; there is no circle."""
    nodes = {id(node): node for node in _nodes(schema)}
    anchors = _anchors(nodes.values())
    below = {
        number: [id(other) for other in _on_same_value(node, schema, anchors)]
        for number, node in nodes.items()
    }
    checks: dict[int, int] = {}
    for number in TopologicalSorter(below).static_order():
        checks[number] = 1 + sum(checks[other] for other in below.get(number, ()))
    return max(checks.values(), default=0)


def _anchors(nodes: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: node
        for node in nodes
        for key in ("$anchor", "$dynamicAnchor")
        if isinstance(name := node.get(key), str)
    }


def _on_same_value(
    node: dict[str, Any], schema: dict[str, Any], anchors: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The schemas that a value must be checked against together with ``node``."""
    parts = [node.get(key) for key in _SAME_VALUE]
    for key in _SAME_VALUE_LISTS:
        listed = node.get(key)
        parts.extend(listed if isinstance(listed, list) else ())
    dependent = node.get("dependentSchemas")
    parts.extend(dependent.values() if isinstance(dependent, dict) else ())
    parts.extend(_target(node.get(key), schema, anchors) for key in _REFERENCES)
    return (part for part in parts if isinstance(part, dict))


def _target(reference: Any, schema: dict[str, Any], anchors: dict[str, dict[str, Any]]) -> Any:
    """What a reference inside the schema names; None for one that goes by an $id."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    name = unquote(reference[1:])
    if name and not name.startswith("/"):
        return anchors.get(name)
    place: Any = schema
    for part in name.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and len(key) < 10 and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        elif isinstance(place, dict):
            place = place.get(key)
        else:
            return None
    return place
