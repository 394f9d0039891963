import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from resources.errors import ConfigurationError
from resources.subject_record import BadRecord, SubjectRecord
from resources.subject_sources import ParquetSource, SqlSource, read_records


def parquet(path: Path, **options: object) -> ParquetSource:
    return ParquetSource.model_validate({"source": "parquet", "path": path, **options})


def sql(url: str, **options: object) -> SqlSource:
    return SqlSource.model_validate({"source": "sql", "url": url, **options})


def fields_of(records: list[SubjectRecord | BadRecord]) -> list[dict[str, Any]]:
    assert all(isinstance(record, SubjectRecord) for record in records), records
    return [record.fields for record in records if isinstance(record, SubjectRecord)]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'postings.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE postings (id INTEGER PRIMARY KEY, title TEXT, body BLOB)"
        )
        connection.exec_driver_sql(
            "INSERT INTO postings VALUES (3, 'c', x'ff00'), (1, 'a', NULL), (2, 'b', 'text')"
        )
    engine.dispose()
    return url


def test_parquet_values_become_json(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    moment = dt.datetime(2024, 5, 1, 12, 30, 0, 250_000)
    schema = pa.schema(
        {
            "id": pa.int64(),
            "text": pa.string(),
            "price": pa.decimal128(10, 2),
            "day": pa.date32(),
            "moment": pa.timestamp("us", tz="UTC"),
            "exact": pa.timestamp("ns"),
            "raw": pa.binary(),
            "tags": pa.list_(pa.string()),
            "inner": pa.struct({"a": pa.int8(), "when": pa.timestamp("ms")}),
        }
    )
    row = {
        "id": 1,
        "text": "one",
        "price": Decimal("12.50"),
        "day": moment.date(),
        "moment": moment.replace(tzinfo=dt.UTC),
        "exact": 1_700_000_000_123_456_789,
        "raw": b"\xff\x00",
        "tags": ["a", None],
        "inner": {"a": 5, "when": moment},
    }
    empty = dict.fromkeys(row) | {"id": 2}
    pq.write_table(pa.Table.from_pylist([row, empty], schema=schema), path)
    first, second = fields_of(list(read_records(parquet(path))))
    assert first == {
        "id": 1,
        "text": "one",
        "price": "12.50",
        "day": "2024-05-01",
        "moment": "2024-05-01T12:30:00.250000+00:00",
        "exact": "2023-11-14T22:13:20.123456789",
        "raw": "/wA=",
        "tags": ["a", None],
        "inner": {"a": 5, "when": "2024-05-01T12:30:00.250000"},
    }
    assert second == empty


def test_parquet_bad_rows_and_row_numbers_across_batches(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    numbers = [float(n) for n in range(1000)]
    numbers[700] = float("nan")
    texts = ["x"] * 1000
    texts[701] = "a\0b"
    table = pa.table({"id": range(1000), "n": numbers, "text": texts})
    pq.write_table(table, path, row_group_size=300)
    records = list(read_records(parquet(path)))
    bad = [record for record in records if isinstance(record, BadRecord)]
    assert [record.where for record in bad] == [f"{path}:701", f"{path}:702"]
    assert "NaN" in bad[0].reason
    assert "NUL" in bad[1].reason
    good = [record.key for record in records if isinstance(record, SubjectRecord)]
    assert good == [str(n) for n in range(1000) if n not in (700, 701)]


def test_parquet_date_that_python_has_not(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    far = pa.array([0, 400 * 365 * 86400 * 1000], pa.timestamp("s"))
    pq.write_table(pa.table({"id": [1, 2], "at": far}), path)
    good, bad = read_records(parquet(path))
    assert isinstance(good, SubjectRecord)
    assert isinstance(bad, BadRecord)
    assert "Python cannot read" in bad.reason


def test_parquet_that_is_none_or_lacks_the_key(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_text("id,text\n")
    with pytest.raises(ConfigurationError, match=r"subjects\.path: .*not a Parquet file"):
        list(read_records(parquet(path)))
    with pytest.raises(ConfigurationError, match="there is no file"):
        list(read_records(parquet(tmp_path / "gone.parquet")))
    pq.write_table(pa.table({"id": pa.array([], pa.int64())}), path)
    with pytest.raises(ConfigurationError, match=r"no valid record in .*: it is empty"):
        list(read_records(parquet(path)))
    with pytest.raises(ConfigurationError, match=r"subjects\.key: .*no column 'slug'; it has id"):
        list(read_records(parquet(path, key="slug")))


def test_parquet_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = {"id": range(20_000), "text": [f"text {n}" for n in range(20_000)]}
    pq.write_table(pa.table(rows), path, row_group_size=1000, compression="snappy")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.parquet is damaged after row \d+"):
        list(read_records(parquet(path)))


def test_sql_table_and_query(sqlite_url: str) -> None:
    rows = fields_of(list(read_records(sql(sqlite_url, table="postings", key="id"))))
    assert rows == [
        {"id": 1, "title": "a", "body": None},
        {"id": 2, "title": "b", "body": "text"},
        {"id": 3, "title": "c", "body": "/wA="},
    ]
    query = "SELECT title AS key, 'a :b' AS odd FROM postings WHERE title LIKE '%c'"
    (record,) = read_records(sql(sqlite_url, query=query))
    assert isinstance(record, SubjectRecord)
    assert (record.key, record.fields["odd"]) == ("c", "a :b")


def test_sql_url_from_the_environment(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sql("${POSTINGS_URL}", table="postings")
    monkeypatch.delenv("POSTINGS_URL", raising=False)
    with pytest.raises(ConfigurationError, match=r"subjects\.url: .* POSTINGS_URL is not set"):
        list(read_records(source))
    monkeypatch.setenv("POSTINGS_URL", sqlite_url)
    assert len(list(read_records(source))) == 3


def test_sql_never_writes(sqlite_url: str) -> None:
    for statement in ("DELETE FROM postings", "DROP TABLE postings"):
        with pytest.raises(ConfigurationError, match=r"subjects\.query: .*readonly"):
            list(read_records(sql(sqlite_url, query=statement)))
    assert len(list(read_records(sql(sqlite_url, table="postings")))) == 3


def test_sql_errors_name_the_field(sqlite_url: str, tmp_path: Path) -> None:
    def refused(**options: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            list(read_records(sql(options.pop("url", sqlite_url), **options)))
        return str(caught.value)

    assert "subjects.table: " in refused(table="nowhere")
    assert "no such table: nowhere" in refused(table="nowhere")
    assert "no such table: a; DROP" in refused(table="a; DROP TABLE postings")
    assert "subjects.query: " in refused(query="SELEC 1")
    assert "does not return rows" in refused(query="PRAGMA query_only = ON")
    assert "two columns have the same name" in refused(query="SELECT 1 AS a, 2 AS a")
    assert "subjects.key: query has no column 'slug'" in refused(query="SELECT 1 AS a", key="slug")
    assert "no valid record in query: it is empty" in refused(query="SELECT 1 AS a WHERE 0")
    assert "subjects.url: is not a URL" in refused(url="postings.db", table="t")
    assert "subjects.url: the driver nosuch" in refused(url="nosuch://host/db", table="t")
    gone = tmp_path / "gone.db"
    assert "there is no SQLite file" in refused(url=f"sqlite:///{gone}", table="t")
    assert not gone.exists()


def test_sql_over_postgresql_streams_reads_only_and_hides_the_password(postgres_url: str) -> None:
    plain = postgres_url.replace("postgresql+psycopg2", "postgresql")
    query = (
        "SELECT n AS id, now() AS at, 1.50::numeric AS price, '{\"a\": [1]}'::jsonb AS j,"
        " ARRAY['x','y'] AS tags, gen_random_uuid() AS u, 'n'::bytea AS raw"
        " FROM generate_series(1, 1000) n WHERE 'abc' LIKE '%b%'"
    )
    rows = fields_of(list(read_records(sql(plain, query=query))))
    assert [row["id"] for row in rows] == list(range(1, 1001))
    assert rows[0] | {"at": "", "u": ""} == {
        "id": 1,
        "at": "",
        "price": "1.50",
        "j": {"a": [1]},
        "tags": ["x", "y"],
        "u": "",
        "raw": "n",
    }
    writing = "SELECT set_config('a.b', 'c', false), lo_create(0) AS id"
    with pytest.raises(ConfigurationError, match=r"subjects\.query: .*read-only transaction"):
        list(read_records(sql(plain, query=writing)))
    (row,) = fields_of(list(read_records(sql(plain, table="pg_catalog.pg_am", key="amname"))))[:1]
    assert row["amname"]
    wrong = sa.make_url(plain).set(password="hunter2secret")
    text = wrong.render_as_string(hide_password=False)
    with pytest.raises(ConfigurationError, match=r"subjects\.url: cannot connect") as caught:
        list(read_records(sql(text.replace(wrong.database or "", "nowhere"), table="t")))
    assert "hunter2secret" not in str(caught.value)
    assert "hunter2secret" not in repr(sql(text, table="t"))


def test_a_password_in_any_form_is_in_no_error(
    monkeypatch: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    for url in (
        "postgresql://src:s3cr3t/pw@127.0.0.1:9/forge",
        "postgresql://127.0.0.1:9/x?user=u&password=s3cr3t",
        "postgresql://127.0.0.1:9/x?gssencmode=s3cr3t",
        "postgresql://u:s3c@r3t@127.0.0.1:9/x",
        "postgresql://u:%zz%00s3cr3t@127.0.0.1:9/x",
        "postgresql://u:s3cr3t@127.0.0.1:s3cr3t/x",
        "nosuch://u:s3cr3t@host/db?password=s3cr3t",
        f"{sqlite_url}?timeout=s3cr3t",
    ):
        monkeypatch.setenv("POSTINGS_URL", url)
        for written in (url, "${POSTINGS_URL}"):
            with pytest.raises(ConfigurationError, match=r"^subjects\.(url|table): ") as caught:
                list(read_records(sql(written, table="t")))
            assert "s3cr3t" not in str(caught.value)
            assert "r3t" not in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_query_that_never_gives_a_row_is_ended(
    monkeypatch: pytest.MonkeyPatch, sqlite_url: str, postgres_url: str
) -> None:
    monkeypatch.setattr("resources.table_records._STATEMENT_SECONDS", 0.2)
    endless = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT 1 FROM c) SELECT max(x) AS id FROM c"
    )
    for url, query in ((sqlite_url, endless), (postgres_url, "SELECT 1 AS id, pg_sleep(60)::text")):
        with pytest.raises(ConfigurationError, match=r"^subjects\.query: .*statement timeout"):
            list(read_records(sql(url, query=query)))


def test_the_statement_timeout_of_the_database_itself_stays(postgres_url: str) -> None:
    query = "SELECT 1 AS id, current_setting('statement_timeout') AS own"
    url = sa.make_url(postgres_url).update_query_dict({"options": "-c statement_timeout=5s"})
    for text, own in ((url.render_as_string(False), "5s"), (postgres_url, "10min")):
        assert fields_of(list(read_records(sql(text, query=query))))[0]["own"] == own
