"""Judges one output against its contract."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from forge_assets.workflow.json_schema import mismatch
from forge_assets.workflow.steps import OutputContract
from resources.interaction import ErrorClass
from resources.subject_record import MAX_DEPTH

_PATTERN_SECONDS = 1.0
"""A pattern that needs longer on one output backtracks without end."""

_MOST_REASONS = 1_000
"""Why the alternatives of a recursive schema were not taken."""

_LOOP_REPEATS = 4
_LOOP_CHARS = 120
_LOOP_WINDOW = 4000
"""A tail is a loop when it is one unit at least this often over at least this many characters."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``parsed`` is the JSON value or the chosen text of an accepted output that has one."""

    accepted: bool
    parsed: Any = None
    error_class: ErrorClass | None = None
    reason: str | None = None
    """One sentence when refused."""


class _ContractError(Exception):
    """What the contract does not allow."""


def judge_output(text: str, contract: OutputContract, truncated: bool) -> Verdict:
    """Judge an output, without the blanks around it. Every output gets a verdict.

    ``truncated``: the model was stopped, at max_new_tokens or in a loop. Such an output is accepted when it
    satisfies its contract all the same. A free text that loops is refused even when it fits.
    """
    stripped = text.strip()
    try:
        parsed = _parse(stripped, contract)
    except _ContractError as violation:
        looping = loop_in(stripped)
        if looping:
            return Verdict(False, None, ErrorClass.REPETITION, f"{looping}; {violation}")
        if truncated:
            reason = f"cut off at max_new_tokens: {violation}"
            return Verdict(False, None, ErrorClass.TRUNCATED, reason)
        return Verdict(False, None, ErrorClass.CONTRACT, str(violation))
    looping = None if contract.structured else loop_in(stripped)
    if looping:
        return Verdict(False, None, ErrorClass.REPETITION, looping)
    return Verdict(True, parsed)


def loop_in(text: str) -> str | None:
    """Why the text counts as a loop, or None: its tail repeats one unit again and again.

    Blanks are folded. Conservative: four times or more, over 120 characters or more, in the last
    4,000. The smallest period of every tail comes from the prefix function of the reversed text.
    """
    tail = " ".join(text.split())[-_LOOP_WINDOW:]
    longest = (0, 0)
    for length, period in _periods(tail[::-1]):
        if length >= _LOOP_CHARS and length >= _LOOP_REPEATS * period:
            longest = (length, period)
    length, period = longest
    if not period:
        return None
    unit = tail[len(tail) - length :][:period]
    shown = unit if len(unit) <= 40 else unit[:37] + "..."
    return f"the end repeats '{shown}' {length // period} times over {length} characters"


def _periods(text: str) -> Iterator[tuple[int, int]]:
    """(length, smallest period) of every prefix, in linear time."""
    border = [0] * (len(text) + 1)
    matched = 0
    for i in range(1, len(text)):
        while matched and text[i] != text[matched]:
            matched = border[matched]
        if text[i] == text[matched]:
            matched += 1
        border[i + 1] = matched
        yield i + 1, i + 1 - matched


def _parse(text: str, contract: OutputContract) -> Any:
    """The parsed value of a text that satisfies its contract, None for a free text."""
    if contract.one_of is not None:
        if text not in contract.one_of:
            raise _ContractError(f"{_quoted(text)} is none of: {', '.join(contract.one_of)}")
        return text
    _check_text(text, contract)
    return _check_json(text, contract) if contract.json_schema is not None else None


def _check_text(text: str, contract: OutputContract) -> None:
    if len(text) < contract.min_chars:
        raise _ContractError(f"{len(text)} characters, at least {contract.min_chars}")
    if contract.max_chars is not None and len(text) > contract.max_chars:
        raise _ContractError(f"{len(text)} characters, at most {contract.max_chars}")
    if contract.compiled_pattern is None:
        return
    try:
        found = contract.compiled_pattern.search(text, timeout=_PATTERN_SECONDS)
    except (TimeoutError, MemoryError, RecursionError):
        raise _ContractError(
            f"pattern '{contract.pattern}' needed more than {_PATTERN_SECONDS:g} s; simplify it"
        ) from None
    if not found:
        raise _ContractError(f"does not match the pattern '{contract.pattern}'")


def _check_json(text: str, contract: OutputContract) -> Any:
    assert contract.validator is not None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise _ContractError("the JSON is nested too deep") from None
    except json.JSONDecodeError as fault:
        raise _ContractError(f"no valid JSON: {fault.msg} at character {fault.pos}") from None
    except ValueError as fault:
        raise _ContractError(f"no valid JSON: {fault}") from None
    if _deeper_than(value, MAX_DEPTH):
        raise _ContractError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        violation = mismatch(contract.validator, value, _many_reasons(value, contract))
    except UnicodeError:
        raise _ContractError("no valid JSON: half of a surrogate pair") from None
    except ValueError as fault:
        raise _ContractError(f"the JSON cannot be checked: {fault}") from None
    if violation:
        raise _ContractError(violation)
    return value


def _many_reasons(value: Any, contract: OutputContract) -> bool:
    """Whether to tell each reason against the value would take long."""
    if contract.alternatives <= 1:
        return False
    return _deeper_than(value, int(math.log(_MOST_REASONS, contract.alternatives)))


def _deeper_than(value: Any, levels: int) -> bool:
    """Level by level: what keeps and shows the value later goes down by recursion."""
    level = [value]
    for _ in range(levels + 1):
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _quoted(text: str) -> str:
    folded = " ".join(text.split())
    return f"'{folded}'" if len(folded) <= 60 else f"'{folded[:57]}...' ({len(text)} characters)"
