"""Log entries put together again: a traceback comes as one entry a line, between those of others."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from resources.cloud.log_entry import LogEntry

_BEGIN = "Traceback (most recent call last):"
_CHAINED = re.compile(
    r"The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:"
)


@dataclass(frozen=True, slots=True)
class Block:
    """Entries of one writer that belong together, oldest first."""

    entries: Sequence[LogEntry]

    @property
    def text(self) -> str:
        return "\n".join(entry.text for entry in self.entries)


def blocks(entries: Iterable[LogEntry]) -> list[Block]:
    """Entries in any order -> tracebacks whole, every other entry alone; oldest first."""
    by_writer = sorted(entries, key=lambda entry: (entry.writer, entry.at, entry.insert_id))
    made: list[Block] = []
    for _, written in groupby(by_writer, key=lambda entry: entry.writer):
        made += _joined(written)
    return sorted(made, key=lambda block: (block.entries[0].at, block.entries[0].insert_id))


def _joined(written: Iterable[LogEntry]) -> Iterator[Block]:
    """Of one writer's entries in order."""
    lines: list[LogEntry] = []
    ended = False
    """Whether the line that names the exception has come: then only what is chained to it goes on."""
    for entry in written:
        text = entry.text.strip()
        chained = _CHAINED.fullmatch(text) is not None
        if lines and (not ended or not text or chained):
            ended = not chained and (ended or _names_exception(entry.text))
            lines.append(entry)
            continue
        if lines:
            yield Block(lines)
            lines = []
        if text == _BEGIN:
            lines, ended = [entry], False
        else:
            yield Block([entry])
    if lines:
        yield Block(lines)


def _names_exception(line: str) -> bool:
    """The only line of a traceback that is neither indented nor its first."""
    return bool(line.strip()) and not line[0].isspace() and line.strip() != _BEGIN
