"""What goes wrong with a launch: texts of Google's services and W&B, each with its class and advice."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

CATALOGUE = Path(__file__).with_name("catalogue.yaml")

Retry = Literal["no", "fix", "wait", "same", "region", "once"]
"""``no``: the user's code failed; ``fix``: a person must change something; ``wait``: it goes on by
itself; ``same``: back off, same place; ``region``: another region or accelerator; ``once``: one more
try."""

# The agent prints what an API said behind its own name.
_PREFIX = re.compile(r"^wandb: (?:ERROR|WARNING) ", re.MULTILINE)
_LINE_CHARACTERS = 4_000
_TEXT_CHARACTERS = 400_000
"""Of a text only its end beyond this: a chained traceback tells its cause last."""
_FLAGS = re.IGNORECASE | re.MULTILINE


def _compiles(value: str) -> str:
    re.compile(value, _FLAGS)
    return value


class Entry(BaseModel):
    """One kind of failure. ``sample`` is a text that only this entry finds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"[A-Z]\d\d")
    error_class: str = Field(alias="class", pattern=r"[a-z_]+")
    retry: Retry
    pattern: Annotated[str, AfterValidator(_compiles)]
    sample: str
    advice: str

    @functools.cached_property
    def regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern, _FLAGS)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something failed: the entry, and the line that told it."""

    entry: Entry
    line: str


@functools.cache
def entries() -> Sequence[Entry]:
    """Causes first, then what only reports that something failed."""
    content = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Entry, ...]).validate_python(content)


def classify(text: str) -> Cause | None:
    """The cause that a text tells; of a chained traceback the last one. None when it tells none.

    ``text``: one message, whole: a line, or the lines of a traceback.
    """
    plain = _PREFIX.sub("", _bounded(text))
    for entry in entries():
        found = list(entry.regex.finditer(plain))
        if found:
            start = plain.rfind("\n", 0, found[-1].start()) + 1
            line = plain[start:].split("\n", 1)[0]
            return Cause(entry, line.strip())
    return None


def _bounded(text: str) -> str:
    """Long lines without their middle: a search takes longer than a line is long."""
    end = text[-_TEXT_CHARACTERS:]
    if len(end) <= _LINE_CHARACTERS:
        return end
    half = _LINE_CHARACTERS // 2
    return "\n".join(
        line if len(line) <= _LINE_CHARACTERS else f"{line[:half]} ... {line[-half:]}"
        for line in end.split("\n")
    )
