"""The runner's own events: one JSON object a line, which Cloud Logging keeps as fields."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MOST_BYTES = 200_000
"""Of a line; Cloud Logging refuses entries above 256 kB."""

_LINE_LENGTHS = (4000, 2000, 1000, 500, 200, 100, 50)
_MOST_LINES = 100
# Colours, and what a terminal would obey. Each would take six bytes as JSON.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class Events:
    """``write`` gets whole lines; ``common`` are the fields that every event carries, as of now."""

    def __init__(
        self, write: Callable[[str], None], common: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._write = write
        self._common = common

    def tell(self, event: str, severity: str = "INFO", **fields: Any) -> None:
        """No field may be named ``message``: Cloud Run would make it the whole text."""
        self._write(line({"event": event, "severity": severity, **self._common(), **fields}))


def line(fields: Mapping[str, Any]) -> str:
    """Texts are cut, and of lists the last 100 kept, until it is shorter than ``MOST_BYTES``."""
    for longest in _LINE_LENGTHS:
        text = json.dumps({"forge_runner": 1, **_cut(fields, longest)}, ensure_ascii=False)
        if len(text.encode(errors="replace")) < MOST_BYTES:
            break
    return text.encode(errors="replace").decode() + "\n"


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        plain = _CONTROL.sub("", value)
        return plain if len(plain) <= longest else plain[: longest - 1] + "…"
    if isinstance(value, Mapping):
        return {name: _cut(held, longest) for name, held in value.items()}
    if isinstance(value, Sequence):
        return [_cut(held, longest) for held in value[-_MOST_LINES:]]
    return value
