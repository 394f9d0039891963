"""What became of the subjects of a stage, with the command that tells each one's story."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from resources.plain_text import visible

FIRST = 20
ENDED_BADLY = 50
_SHOWN_KEY, _TYPED_KEY = 60, 100
_BAD = ("failed", "rejected")
_OPEN = ("pending", "running")
_HEAD = "| subject | outcome | where | the whole story |\n| --- | --- | --- | --- |"


def subjects_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """``rows`` as ``store.result_rows`` gives them. The first ones, and those that ended badly."""
    if not rows:
        return "The stage holds no subjects yet."
    bad = [place for place, row in enumerate(rows) if _outcome(row)[0] in _BAD]
    shown = sorted({*range(min(FIRST, len(rows))), *bad[:ENDED_BADLY]})
    lines = [_line(rows[place]) for place in shown]
    told = f"{len(shown)} of {len(rows)} subjects: the first {min(FIRST, len(rows))}"
    if bad:
        told += f", and {min(len(bad), ENDED_BADLY)} of {len(bad)} with a rejected or failed step"
    return "\n".join([f"{told}.", "", _HEAD, *lines]) + "\n"


def trace_command(row: Mapping[str, Any]) -> str:
    """By key; by an interaction's number where the key cannot well be typed."""
    key = str(row["key"])
    if len(key) > _TYPED_KEY or visible(key) != key or not key.isprintable():
        states = [state for _, state in _worst_first(row)]
        return f"forge trace {states[0]['interaction_id']}"
    # Behind -- nothing is taken for an option.
    return f"forge trace {'-- ' if key.startswith('-') else ''}{shlex.quote(key)}"


def _line(row: Mapping[str, Any]) -> str:
    key = visible(str(row["key"])).replace("\n", " ")
    if len(key) > _SHOWN_KEY:
        key = key[: _SHOWN_KEY - 1] + "\u2026"
    outcome, where = _outcome(row)
    return f"| {_literal(key)} | {outcome} | {_literal(where)} | {_literal(trace_command(row))} |"


def _outcome(row: Mapping[str, Any]) -> tuple[str, str]:
    """Of the subject: that of its worst step, and which steps ended so."""
    status = str(_worst_first(row)[0][1]["status"])
    steps = [(step, state) for step, state in row["steps"].items() if state["status"] == status]
    if status in _OPEN:
        return "open", ", ".join(step for step, _ in steps)
    if status not in _BAD:
        return status, ""
    return status, ", ".join(f"{step} ({state['error_class']})" for step, state in steps)


def _worst_first(row: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    order = [*_BAD, *_OPEN, "completed", "skipped"]
    return sorted(row["steps"].items(), key=lambda entry: order.index(entry[1]["status"]))


def _literal(text: str) -> str:
    """In a Markdown table, every sign as itself: a key may hold pipes, backticks and underscores."""
    return "".join(
        sign if sign.isalnum() or sign in " -" or ord(sign) > 127 else f"&#{ord(sign)};"
        for sign in text
    )
