"""Where subjects come from: the ``subjects`` section of forge.yaml and the reader of each kind."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from resources.errors import ConfigurationError
from resources.subject_record import MAX_NAME, BadRecord, SubjectRecord, name_text

__all__ = [
    "BadRecord",
    "CsvSource",
    "JsonlSource",
    "ParquetSource",
    "PythonDocstringsSource",
    "SqlSource",
    "SubjectRecord",
    "SubjectSource",
    "read_records",
]

_ENVIRONMENT_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(
        default=None,
        min_length=1,
        json_schema_extra={"maxLength": MAX_NAME},
        description="Name of the dataset, at most 100 characters. Without one it is the source and"
        " its place (never a password), so a file that moves is a new dataset with ordinals from 0.",
    )

    @field_validator("name")
    @classmethod
    def _short(cls, value: str | None) -> str | None:
        return None if value is None else name_text(value)


class _RecordSource(_Source):
    key: str | None = Field(
        default=None,
        min_length=1,
        description="Field that identifies a record for good: text or number. Without it `key`, else"
        " `id`, else a hash of the content.",
    )
    max_record_bytes: int = Field(
        default=1_000_000, gt=0, description="A larger record is told and passed over."
    )


class _FileSource(_RecordSource):
    path: Path = Field(description="The file; no pipe, no device.")

    @field_validator("path")
    @classmethod
    def _openable(cls, value: Path) -> Path:
        if "\0" in str(value):
            raise ValueError("holds a NUL character; remove it")
        return value

    @property
    def place(self) -> str:
        """The path as messages show it: relative when it lies below the current folder."""
        if self.path.is_absolute() and self.path.is_relative_to(Path.cwd()):
            return str(self.path.relative_to(Path.cwd()))
        return str(self.path)


class JsonlSource(_FileSource):
    """One JSON object a line, UTF-8."""

    source: Literal["jsonl"] = Field(description="One JSON object a line, UTF-8.")


class CsvSource(_FileSource):
    """Comma-separated values with a header line, UTF-8; every value is a text."""

    source: Literal["csv"] = Field(
        description="Comma-separated values with a header line, UTF-8; every value is a text."
    )


class ParquetSource(_FileSource):
    """One Parquet file; each row is a record."""

    source: Literal["parquet"] = Field(description="One Parquet file; each row is a record.")


class SqlSource(_RecordSource):
    """The rows of a table or a query in any database SQLAlchemy can open, read only."""

    source: Literal["sql"] = Field(
        description="The rows of a table or a query in any database that SQLAlchemy can open."
    )
    url: str = Field(
        min_length=1,
        repr=False,
        description="SQLAlchemy URL, or `${NAME}` to take it whole from the environment; in it `@`,"
        " `/`, `:` of a password as `%40`, `%2F`, `%3A`. Read only.",
    )
    table: str | None = Field(
        default=None, min_length=1, description="`table` or `schema.table`; this or `query`."
    )
    query: str | None = Field(
        default=None,
        min_length=1,
        description="A SELECT; this or `table`. Its order is the order of new subjects. PostgreSQL"
        " (unless it sets `statement_timeout`) and SQLite have ten minutes for the next rows.",
    )

    @field_validator("url", "table", "query")
    @classmethod
    def _sendable(cls, value: str | None) -> str | None:
        if "\0" in (value or ""):
            raise ValueError("holds a NUL character; remove it")
        return value

    @model_validator(mode="after")
    def _one_of_table_and_query(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("name either table or query")
        return self

    @property
    def place(self) -> str:
        """What messages call the rows."""
        return self.table or "query"

    @property
    def from_environment(self) -> bool:
        """Whether ``url`` names a variable that holds it."""
        return _ENVIRONMENT_REFERENCE.fullmatch(self.url) is not None

    def resolved_url(self) -> str:
        """The URL, from the environment where it says so. ConfigurationError when it is unset."""
        reference = _ENVIRONMENT_REFERENCE.fullmatch(self.url)
        if reference is None:
            return self.url
        value = os.environ.get(reference[1], "")
        if not value:
            raise ConfigurationError(
                f"subjects.url: the environment variable {reference[1]} is not set; "
                "export it with the SQLAlchemy URL of the database"
            )
        return value


class PythonDocstringsSource(_Source):
    """Docstrings of the standard library's public functions and classes: the demo's real texts."""

    source: Literal["python_docstrings"] = Field(
        description="The docstrings of Python's standard library, with the fields `name`, `module`,"
        " `kind`, `signature` and `text`."
    )


SubjectSource = Annotated[
    JsonlSource | CsvSource | ParquetSource | SqlSource | PythonDocstringsSource,
    Field(discriminator="source"),
]


def read_records(source: SubjectSource) -> Iterator[SubjectRecord | BadRecord]:
    """Stream a source's records in its own order, bad ones among them.

    ConfigurationError when the source is missing, unreadable as a whole, or, at the end, held no
    valid record.
    """
    valid, bad, first_bad = 0, 0, None
    for record in _reader(source):
        if isinstance(record, SubjectRecord):
            valid += 1
        else:
            bad += 1
            first_bad = first_bad or record
        yield record
    if valid == 0:
        raise ConfigurationError(_no_valid_record(source, bad, first_bad))


def _reader(source: SubjectSource) -> Iterator[SubjectRecord | BadRecord]:
    match source:
        case JsonlSource() | CsvSource():
            from resources.text_records import read_csv, read_jsonl

            read = read_jsonl if isinstance(source, JsonlSource) else read_csv
            yield from read(source.path, source.place, source.key, source.max_record_bytes)
        case ParquetSource():
            from resources.table_records import read_parquet

            yield from read_parquet(source.path, source.place, source.key, source.max_record_bytes)
        case SqlSource():
            from resources.table_records import read_sql

            yield from read_sql(source)
        case PythonDocstringsSource():
            from resources.docstrings import read_docstrings

            yield from read_docstrings()


def _no_valid_record(source: SubjectSource, bad: int, first_bad: BadRecord | None) -> str:
    if isinstance(source, PythonDocstringsSource):
        return "subjects.source: no docstring found in the standard library's source files"
    field = ("table" if source.table else "query") if isinstance(source, SqlSource) else "path"
    sentence = f"subjects.{field}: no valid record in {source.place}"
    if first_bad is None:
        return f"{sentence}: it is empty"
    noun = "record" if bad == 1 else "records"
    return f"{sentence} ({bad:,} bad {noun}; first: {first_bad})"
