"""What W&B's launch agent prints: lines that belong together, jobs received, jobs running."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# As termlog, termerror and termwarn of wandb write it, before every line of a text.
_PREFIX = re.compile(r"^wandb:(?: (ERROR|WARNING)\b)? ?")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_RECEIVED = re.compile(r"\breceived job:?\s*(\S*)$", re.IGNORECASE)
_ITEM = re.compile(r"'runQueueItemId': '([^']+)'")
_RUNNING = re.compile(r"\brunning (\d+) out of a maximum of\b")
_JOB_ENDED = re.compile(r"^launch: (?:Job finished with ID|Error running job|Terminating job)\b")

_BEGIN = "Traceback (most recent call last):"
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_LONGEST_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """A queue item that the agent took."""

    item: str


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of one message without wandb's prefix: most have one, an error has its traceback."""

    lines: tuple[str, ...]
    is_error: bool

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class AgentLog:
    """Reads line by line. ``running``: jobs by the agent's last word."""

    def __init__(self) -> None:
        self.items: set[str] = set()
        """Of all jobs received in its life: an item that comes twice is one job."""
        self.running = 0
        self._open: list[str] = []
        self._told_by_wandb = False
        """Whether the open lines carry the prefix of an error; else they are a bare traceback."""
        self._ended = False
        """Whether the line that names the exception has come, in a bare traceback."""
        self._spec: str | None = None
        """Item of the job whose description is being printed; empty until it is told."""

    def read(self, line: str) -> Iterator[Job | Block]:
        """What has become complete with this line."""
        raw = _ESCAPE.sub("", line).rstrip("\r\n")
        prefix = _PREFIX.match(raw)
        text = raw[prefix.end() :] if prefix else raw
        if self._spec is not None:
            # The description is what a user wrote: an error named in it has not happened.
            if prefix and text.startswith(("{", " ")):
                yield from self._described(text)
                return
            yield from self._end_of_spec()
        is_error = bool(prefix and prefix.group(1) == "ERROR")
        if not self._belongs(text, is_error):
            yield from self.flush()
        if self._open or is_error or text == _BEGIN:
            self._keep(text, is_error)
        else:
            yield from self._single(text)

    def flush(self) -> Iterator[Block]:
        """What waits for lines that may still come."""
        if self._open:
            block = Block(tuple(self._open), is_error=True)
            self._open = []
            if _JOB_ENDED.match(block.lines[0]):
                self.running = max(0, self.running - 1)
            yield block

    def _belongs(self, text: str, is_error: bool) -> bool:
        """Whether the line goes on with the open ones."""
        if not self._open or len(self._open) >= _LONGEST_BLOCK:
            return False
        if self._told_by_wandb:
            return is_error and not text.startswith("launch: ")
        return not is_error and (not self._ended or not text.strip() or text.strip() in _CHAINED)

    def _keep(self, text: str, is_error: bool) -> None:
        if not self._open:
            self._told_by_wandb = is_error
        chained = text.strip() in _CHAINED
        names_exception = bool(text) and not text[0].isspace() and text != _BEGIN
        self._ended = not chained and (names_exception or (bool(self._open) and self._ended))
        self._open.append(text.rstrip())

    def _single(self, text: str) -> Iterator[Job | Block]:
        received, running = _RECEIVED.search(text), _RUNNING.search(text)
        if received:
            if received.group(1):
                yield from self._received(received.group(1))
            else:
                self._spec = ""
        elif running:
            self.running = int(running.group(1))
        elif _JOB_ENDED.match(text):
            self.running = max(0, self.running - 1)
        yield Block((text,), is_error=text.startswith("Exception: "))

    def _described(self, text: str) -> Iterator[Job]:
        found = _ITEM.search(text)
        if found and not self._spec:
            self._spec = found.group(1)
            yield from self._received(self._spec)

    def _end_of_spec(self) -> Iterator[Job]:
        if not self._spec:
            yield from self._received(f"without id {len(self.items) + 1}")
        self._spec = None

    def _received(self, item: str) -> Iterator[Job]:
        self.running += 1
        if item not in self.items:
            self.items.add(item)
            yield Job(item)
