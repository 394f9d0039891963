"""Evaluates the ``when`` of a step on the answer of the step it names."""

import operator
from collections.abc import Callable
from typing import Any

from forge_assets.workflow.steps import When
from forge_assets.workflow.template import lookup

_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def why_not_taken(when: When, parsed: Any) -> str | None:
    """None when the branch is taken, else the reason. A missing path or another type: not taken."""
    place = f"{when.step}.{when.path}" if when.path else when.step
    found = lookup(parsed, when.path.split(".") if when.path else ())
    if found is None:
        return f"branch not taken: {place} is not in the answer"
    value = found[0]
    try:
        taken = _holds(when.op, value, when.value)
    except TypeError:
        wanted = f"{when.op} {_shown(when.value)}"
        return f"branch not taken: {place} is {_shown(value)}, not comparable by {wanted}"
    if taken:
        return None
    return f"branch not taken: {place} is {_shown(value)}, not {when.op} {_shown(when.value)}"


def _holds(op: str, value: Any, wanted: Any) -> bool:
    """TypeError when the two cannot be compared in this way."""
    if op == "==":
        return same_json(value, wanted)
    if op == "!=":
        return not same_json(value, wanted)
    if op == "in":
        return any(same_json(value, item) for item in wanted)
    if op == "contains":
        if isinstance(value, str) and isinstance(wanted, str):
            return wanted in value
        if isinstance(value, list):
            return any(same_json(item, wanted) for item in value)
        raise TypeError
    if isinstance(value, bool):
        raise TypeError
    return _ORDERINGS[op](value, wanted)


def same_json(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 is 1.0, but never true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    return bool(one == other)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
