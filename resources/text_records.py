"""Records of line-based text files, JSONL and CSV, read in bounded memory."""

import csv
import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn

from resources.errors import ConfigurationError
from resources.subject_record import BadRecord, RecordError, SubjectRecord, subject_record

_BOM = b"\xef\xbb\xbf"


def read_jsonl(
    path: Path, place: str, key: str | None, max_bytes: int
) -> Iterator[SubjectRecord | BadRecord]:
    """The records of a JSONL file in line order; blank lines are no records."""
    with open_file(path, place) as stream:
        lines = _BoundedLines(stream, place, max_bytes)
        while True:
            try:
                line = next(lines)
                if not line.strip():
                    continue
                # An error at the end of the text would be in a column behind the line's end.
                yield subject_record(_parse(line.rstrip("\r\n")), key, max_bytes)
            except StopIteration:
                return
            except RecordError as error:
                yield BadRecord(f"{place}:{lines.number}", str(error))


def read_csv(
    path: Path, place: str, key: str | None, max_bytes: int
) -> Iterator[SubjectRecord | BadRecord]:
    """The records of a CSV file with a header line; every value is a string.

    A quoted value may span lines: a record's place is the line it starts on.
    """
    with open_file(path, place) as stream:
        lines = _BoundedLines(stream, place, max_bytes)
        rows = csv.reader(lines, strict=True)
        # The limit is the process's own setting; raising it never breaks another reader.
        csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
        header = _header(rows, place, key)
        while True:
            first_line = lines.number + 1
            try:
                row = next(rows)
                if not row:
                    continue
                if len(row) != len(header):
                    raise RecordError(f"{len(row)} values where the header names {len(header)}")
                yield subject_record(dict(zip(header, row, strict=True)), key, max_bytes)
            except StopIteration:
                return
            except (RecordError, csv.Error) as error:
                yield BadRecord(f"{place}:{first_line}", _reason(error, lines, first_line))


def _reason(error: Exception, lines: "_BoundedLines", first_line: int) -> str:
    """Why a CSV record is bad, and how many lines went with it: they may have been records."""
    # Only within quotes does the reader ask for another line of a record.
    taken = lines.number - first_line
    after = "the line after it" if taken == 1 else f"the {taken:,} lines after it"
    if isinstance(error, csv.Error) and lines.ended:
        reason = "a quote opened in this record is never closed"
        return f"{reason}: it took {after}" if taken else reason
    return f"{error}; a quote opened in this record took {after}" if taken else str(error)


def open_file(path: Path, place: str) -> BinaryIO:
    """The source file, open for reading. ConfigurationError when there is none that can be read."""
    try:
        if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
            # A pipe may keep a reader waiting, a device may never end.
            raise ConfigurationError(f"subjects.path: {place} is not a regular file")
        return path.open("rb")
    except FileNotFoundError:
        raise ConfigurationError(f"subjects.path: there is no file {place}") from None
    except IsADirectoryError:
        raise ConfigurationError(
            f"subjects.path: {place} is a folder; name a file inside it"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"subjects.path: cannot read {place}: {reason}") from None


def _header(rows: Iterator[list[str]], place: str, key: str | None) -> list[str]:
    try:
        header = next((row for row in rows if row), None)
    except (RecordError, csv.Error) as error:
        raise ConfigurationError(
            f"subjects.path: the header line of {place} is unreadable: {error}"
        ) from None
    if header is None:
        raise ConfigurationError(
            f"subjects.path: {place} is empty; the first line must be a header"
        )
    if any(not name.strip() for name in header):
        raise ConfigurationError(
            f"subjects.path: the header of {place} has a column without a name; "
            "the first line must name every column"
        )
    counts = Counter(header)
    repeated = next((name for name in header if counts[name] > 1), None)
    if repeated is not None:
        raise ConfigurationError(f"subjects.path: the header of {place} names {repeated!r} twice")
    if key is not None and key not in header:
        raise ConfigurationError(
            f"subjects.key: {place} has no column {key!r}; it has {', '.join(header)}"
        )
    return header


class _BoundedLines:
    """The decoded lines of a stream; never holds more than one line of ``max_bytes`` bytes.

    A line that is too long or is not UTF-8 raises RecordError; iteration can go on after it.
    ``number`` is that of the line last read; ``ended``: a line was asked for behind the last.
    """

    def __init__(self, stream: BinaryIO, place: str, max_bytes: int) -> None:
        self.number = 0
        self.ended = False
        self._stream = stream
        self._place = place
        self._max_bytes = max_bytes

    def __iter__(self) -> "_BoundedLines":
        return self

    def __next__(self) -> str:
        # The limit is on the content: a byte order mark and the line's end come on top.
        line = self._read(self._max_bytes + len(_BOM) + len(b"\r\n"))
        if not line:
            self.ended = True
            raise StopIteration
        self.number += 1
        if self.number == 1 and line.startswith(_BOM):
            line = line.removeprefix(_BOM)
        if len(line.removesuffix(b"\n").removesuffix(b"\r")) > self._max_bytes:
            while not line.endswith(b"\n") and line:
                line = self._read(65_536)
            raise RecordError(f"over max_record_bytes ({self._max_bytes:,})")
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise RecordError(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None

    def _read(self, limit: int) -> bytes:
        try:
            return self._stream.readline(limit)
        except OSError as error:
            raise ConfigurationError(
                f"subjects.path: reading {self._place} stopped after line {self.number}: "
                f"{error.strerror or error}"
            ) from None


def _parse(line: str) -> object:
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise RecordError(
            f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        ) from None
    except RecursionError:
        raise RecordError("not JSON that can be read: nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python reads
        raise RecordError(f"not JSON that can be read: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"holds {name}, which is not JSON")
