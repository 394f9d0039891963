"""Files of subjects that somebody wrote to do harm: records, told reasons, or one sentence."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from forge_assets.workflow.template import TemplateError, render
from resources.errors import ConfigurationError
from resources.subject_record import BadRecord
from resources.subject_sources import SubjectSource, read_records
from tests.hostile.guard import Guard
from tests.hostile.payloads import assert_neutral
from tests.hostile.subject_inputs import csv_files, jsonl_files, parquet_files

SOURCE: TypeAdapter[SubjectSource] = TypeAdapter(SubjectSource)
GOOD = {
    "jsonl": b'{"key": "a", "text": "t"}\n',
    "csv": b"key,text\na,t\n",
    "parquet": dict(parquet_files())["parquet 0"],
}
FILES = {"jsonl": jsonl_files, "csv": csv_files, "parquet": parquet_files}


@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_file_gives_records_reasons_or_one_sentence(
    tmp_path: Path, guard: Guard, kind: str
) -> None:
    path = tmp_path / f"subjects.{kind}"
    taken = told = refused = 0
    for number, (name, content) in enumerate(with_a_good_one_first(kind)):
        path.write_bytes(content)
        with guard.one(name) if number else nullcontext():
            for key in (None, "key"):
                try:
                    for record in read_records(source(kind, path, key)):
                        if isinstance(record, BadRecord):
                            told += 1
                            assert "\n" not in str(record), name
                            assert_neutral(str(record), name)
                        else:
                            taken += 1
                            put_into_a_prompt(record.fields)
                except ConfigurationError as error:
                    refused += 1
                    one_line(error, name)
    assert taken > 50
    assert refused > 10
    assert told > 50 or kind == "parquet"


def one_line(error: ConfigurationError, name: str) -> None:
    assert "\n" not in str(error), name
    assert_neutral(str(error), name)


def with_a_good_one_first(kind: str) -> Iterator[tuple[str, bytes]]:
    """It loads what is imported late, before anybody listens."""
    yield "good", GOOD[kind]
    yield from FILES[kind]()


def source(kind: str, path: Path, key: str | None) -> SubjectSource:
    return SOURCE.validate_python({"source": kind, "path": path, "key": key})


def put_into_a_prompt(fields: dict[str, object]) -> None:
    """A value goes in as it is: what looks like a placeholder in it stays what it is."""
    value = fields.get("text")
    try:
        prompt = render("Of {text}: {key} {{text}}", fields, {})
    except TemplateError:
        assert fields.get("text") is None or fields.get("key") is None
        return
    assert "<class" not in prompt.replace(str(value), "").replace(str(fields["key"]), "")
    if isinstance(value, str):
        assert prompt.startswith(f"Of {value}: ")
    assert prompt.endswith(" {text}")
