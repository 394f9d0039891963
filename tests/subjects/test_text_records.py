import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import ConfigurationError
from resources.subject_record import BadRecord, SubjectRecord
from resources.subject_sources import CsvSource, JsonlSource, read_records


def jsonl(path: Path, **options: object) -> JsonlSource:
    return JsonlSource.model_validate({"source": "jsonl", "path": path, **options})


def csv(path: Path, **options: object) -> CsvSource:
    return CsvSource.model_validate({"source": "csv", "path": path, **options})


def lines_of(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"\n".join(lines))
    return path


def one_bad(path: Path, line: bytes, **options: object) -> str:
    """The reason for a bad second line between two good ones, which must both come through."""
    lines_of(path, b'{"id": 1}', line, b'{"id": 3}')
    first, bad, last = read_records(jsonl(path, **options))
    assert isinstance(first, SubjectRecord)
    assert isinstance(last, SubjectRecord)
    assert (first.key, last.key) == ("1", "3")
    assert isinstance(bad, BadRecord)
    assert bad.where == f"{path}:2"
    return bad.reason


def test_jsonl_keys_fields_and_hashes(tmp_path: Path) -> None:
    path = lines_of(
        tmp_path / "x.jsonl",
        b'\xef\xbb\xbf{"key": "a", "id": 7, "text": "one"}\r',
        b"   ",
        b'{"id": 7, "n": 1e3, "deep": {"b": [1, null, true]}}',
        b'{"text": "no key"}',
        b'{"deep": {"b": [1, null, true]}, "n": 1000.0, "id": 7}',
    )
    records = list(read_records(jsonl(path)))
    assert all(isinstance(record, SubjectRecord) for record in records)
    a, seven, hashed, again = records
    assert a.key == "a"
    assert seven.key == "7"
    assert seven.fields["deep"] == {"b": [1, None, True]}
    assert hashed.key == hashed.content_hash
    assert len(hashed.content_hash) == 64
    assert again.content_hash == seven.content_hash, "order of names and form of numbers"


def test_jsonl_names_its_key_field(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "x.jsonl", b'{"slug": "s-1", "id": 1}', b'{"id": 2}')
    good, bad = read_records(jsonl(path, key="slug"))
    assert isinstance(good, SubjectRecord)
    assert good.key == "s-1"
    assert isinstance(bad, BadRecord)
    assert bad.reason == "key field 'slug' is missing"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 2', "not JSON"),
        (b"[1, 2]", "not a JSON object but an array"),
        (b'"text"', "not a JSON object but a string"),
        (b"null", "not a JSON object but null"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b'{"id": 2, "x": NaN}', "NaN, which is not JSON"),
        (b'{"id": 2, "x": -Infinity}', "-Infinity, which is not JSON"),
        (b'{"id": 2, "x": [1e999]}', "infinite number"),
        (b'{"id": 2, "x": {"y": "a\\u0000b"}}', "NUL character"),
        (b'{"id": 2, "a\\u0000b": 1}', "NUL character"),
        (b'{"id": 2, "x": "\\ud800"}', "surrogate"),
        (b'{"id": 2, "x": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
        (b'{"id": 2, "x": ' + b"[" * 150 + b"]" * 150 + b"}", "nested deeper than 100"),
        (b'{"id": 2, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"id": null}', "key field 'id' must be a string or a number, not null"),
        (b'{"id": [2]}', "key field 'id' must be a string or a number, not an array"),
        (b'{"id": true}', "key field 'id' must be a string or a number, not a boolean"),
        (b'{"id": "  "}', "key field 'id' is empty"),
        (b'{"id": "' + b"k" * 2000 + b'"}', "longer than 1,024 bytes"),
    ],
)
def test_jsonl_bad_lines_are_passed_over(tmp_path: Path, line: bytes, reason: str) -> None:
    assert reason in one_bad(tmp_path / "x.jsonl", line)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_jsonl_that_stops_early_is_told_with_its_column(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"id": 1}\n{"id": 2, "text": "beta"' + end)
    _, bad = read_records(jsonl(path))
    assert isinstance(bad, BadRecord)
    assert bad.reason == "not JSON: Expecting ',' delimiter at column 25"


def test_jsonl_size_limit_is_of_the_line_without_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    exact = json.dumps({"id": 2, "text": "x" * 80}).encode()
    assert "over max_record_bytes" in one_bad(path, exact + b" ", max_record_bytes=len(exact))
    lines_of(path, b"\xef\xbb\xbf" + exact + b"\r", exact)
    records = list(read_records(jsonl(path, max_record_bytes=len(exact))))
    assert [type(record) for record in records] == [SubjectRecord, SubjectRecord]


def test_jsonl_passes_over_a_line_far_over_the_limit_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"id": 1}\n')
        stream.seek(256 * 1024 * 1024, 1)  # a hole: reads as zeros, takes no disk
        stream.write(b'\n{"id": 3}\n')
    import tracemalloc

    tracemalloc.start()
    try:
        records = list(read_records(jsonl(path)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [type(r) for r in records] == [SubjectRecord, BadRecord, SubjectRecord]
    assert peak < 16 * 1024 * 1024


def test_no_valid_record_says_how_many_and_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = lines_of(tmp_path / "x.jsonl", b"{", b"", b"[]")
    with pytest.raises(ConfigurationError) as caught:
        list(read_records(jsonl(path)))
    assert str(caught.value).startswith(
        "subjects.path: no valid record in x.jsonl (2 bad records; first: x.jsonl:1: not JSON"
    )


def test_json_errors_say_their_column_once(tmp_path: Path) -> None:
    reason = one_bad(tmp_path / "x.jsonl", b'{"text": "a\x01b"}')
    assert reason == "not JSON: Invalid control character at column 12"


@pytest.mark.parametrize("make", [jsonl, csv])
def test_pipes_and_devices_are_refused(tmp_path: Path, make: type) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match=f"subjects.path: {path} is not a regular"):
            list(read_records(make(path)))


@pytest.mark.parametrize("make", [jsonl, csv])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, make: type) -> None:
    with pytest.raises(ConfigurationError, match=r"subjects\.path: there is no file .*gone"):
        list(read_records(make(tmp_path / "gone")))
    with pytest.raises(ConfigurationError, match="is a folder"):
        list(read_records(make(tmp_path)))
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigurationError, match=r"subjects\.path: .*empty"):
        list(read_records(make(tmp_path / "empty")))


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(min_value=1, max_value=60))
def test_jsonl_of_any_bytes_gives_records_or_bad_records(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, limit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    check_every_line(path, content, limit)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.lists(_VALUES.map(lambda value: json.dumps(value).encode()), max_size=5))
def test_jsonl_of_any_json_gives_records_or_bad_records(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_json.jsonl"
    content = b"\n".join(lines)
    path.write_bytes(content)
    check_every_line(path, content, 1_000_000)


def check_every_line(path: Path, content: bytes, limit: int) -> None:
    """Each line that is not blank is one record or one bad record; records can be stored."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    blank = sum(len(line.removesuffix(b"\r")) <= limit and is_blank(line) for line in lines)
    records: list[SubjectRecord | BadRecord] = []
    try:
        for record in read_records(jsonl(path, max_record_bytes=limit)):
            records.append(record)
    except ConfigurationError:
        assert not any(isinstance(record, SubjectRecord) for record in records)
    assert len(records) == len(lines) - blank
    for record in records:
        if isinstance(record, SubjectRecord):
            text = json.dumps(record.fields, allow_nan=False)
            assert json.loads(text) == record.fields
            assert "\0" not in record.key


def is_blank(line: bytes) -> bool:
    try:
        return not line.decode().strip()
    except UnicodeDecodeError:
        return False


def test_csv_values_are_strings_and_bad_rows_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,text\r\n"
        b'1,"over\r\ntwo lines, ""quoted"""\r\n'
        b"\r\n"
        b"2\r\n"
        b"3,a,b\r\n"
        b"4,\xff\r\n"
        b"5,a\0b\r\n"
        b'6,"a"b\r\n'
        b",empty key\r\n"
        b"8,last\r\n"
    )
    records = list(read_records(csv(path)))
    good = [r for r in records if isinstance(r, SubjectRecord)]
    bad = [r for r in records if isinstance(r, BadRecord)]
    assert [r.fields for r in good] == [
        {"id": "1", "text": 'over\r\ntwo lines, "quoted"'},
        {"id": "8", "text": "last"},
    ]
    assert [(int(r.where.rsplit(":")[-1]), r.reason.split(":")[0]) for r in bad] == [
        (5, "1 values where the header names 2"),
        (6, "3 values where the header names 2"),
        (7, "not UTF-8"),
        (8, "holds a NUL character (\\u0000), which PostgreSQL cannot store"),
        (9, "',' expected after '\"'"),
        (10, "key field 'id' is empty"),
    ]


def test_csv_fields_may_be_big_and_are_held_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"id,text\n1,{'x' * 900_000}\n2,{'x' * 1_100_000}\n")
    good, bad = read_records(csv(path))
    assert isinstance(good, SubjectRecord)
    assert len(good.fields["text"]) == 900_000
    assert isinstance(bad, BadRecord)
    assert "over max_record_bytes" in bad.reason


@pytest.mark.parametrize(
    ("after", "took"),
    [
        (0, ""),
        (1, ": it took the line after it"),
        (279, ": it took the 279 lines after it"),
        (1_279, ": it took the 1,279 lines after it"),
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_csv_with_a_quote_that_never_closes_ends(
    tmp_path: Path, after: int, took: str, end: str
) -> None:
    path = tmp_path / "x.csv"
    swallowed = [f"{number},swallowed" for number in range(3, 3 + after)]
    path.write_text("\n".join(["id,text", "1,fine", '2,"never closed', *swallowed]) + end)
    good, bad = read_records(csv(path))
    assert isinstance(good, SubjectRecord)
    assert isinstance(bad, BadRecord)
    assert bad.where == f"{path}:3"
    assert bad.reason == f"a quote opened in this record is never closed{took}"


@pytest.mark.parametrize(
    ("record", "reason", "took"),
    [
        (b'2,"a\nb\nc"d', "',' expected after '\"'", "the 2 lines after it"),
        (b'2,"a\nb",c', "3 values where the header names 2", "the line after it"),
        (b'2,"a\n\xff', "not UTF-8: invalid start byte at byte 1", "the line after it"),
        (b'2,"a\n' + b"x" * 2_000_000, "over max_record_bytes (1,000,000)", "the line after it"),
        (b'2,"a"b', "',' expected after '\"'", None),
        (b"2", "1 values where the header names 2", None),
    ],
    ids=range(6),
)
def test_csv_says_how_many_lines_went_with_a_bad_record(
    tmp_path: Path, record: bytes, reason: str, took: str | None
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"id,text\n1,fine\n" + record + b"\n3,fine\n")
    good, bad, last = read_records(csv(path))
    assert isinstance(good, SubjectRecord)
    assert isinstance(bad, BadRecord)
    assert isinstance(last, SubjectRecord)
    assert bad.where == f"{path}:3"
    lost = f"; a quote opened in this record took {took}" if took else ""
    assert bad.reason == reason + lost


@pytest.mark.parametrize(
    ("header", "options", "sentence"),
    [
        ("id,,text", {}, "a column without a name"),
        ("id,text,id", {}, "names 'id' twice"),
        ("id,text", {"key": "slug"}, r"subjects\.key: .* has no column 'slug'; it has id, text"),
        ("\n\n", {}, "is empty; the first line must be a header"),
        ('id,"text', {}, "the header line of .* is unreadable"),
    ],
)
def test_csv_needs_a_usable_header(
    tmp_path: Path, header: str, options: dict[str, str], sentence: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{header}\n1,a,b\n")
    if not header.strip():
        path.write_text(header)
    with pytest.raises(ConfigurationError, match=sentence):
        list(read_records(csv(path, **options)))
