"""Records of typed tables, Parquet files and SQL rows, as JSON objects read in batches."""

import base64
import datetime as dt
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from resources.errors import ConfigurationError
from resources.source_url import parse_url, redacted, shown_url
from resources.subject_record import BadRecord, RecordError, SubjectRecord, subject_record
from resources.text_records import open_file

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.subject_sources import SqlSource

_BATCH_ROWS = 256
_CONNECT_SECONDS = 10
_STATEMENT_SECONDS = 600.0
"""How long a database may take for the next rows."""


def read_parquet(
    path: Path, place: str, key: str | None, max_bytes: int
) -> Iterator[SubjectRecord | BadRecord]:
    """The rows of a Parquet file in file order; a bad row's place is ``file:row``, 1-based."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file(path, place) as stream:
        try:
            table = pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise ConfigurationError(
                f"subjects.path: {place} is not a Parquet file that can be read: {_line(error)}"
            ) from None
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise ConfigurationError(f"subjects.path: {place} has two columns of the same name")
        _check_key(key, names, place)
        row = 0
        batches = table.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                raise ConfigurationError(
                    f"subjects.path: {place} is damaged after row {row}: {_line(error)}"
                ) from None
            for index in range(batch.num_rows):
                row += 1
                yield _parquet_record(batch, index, f"{place}:{row}", key, max_bytes)


def _parquet_record(
    batch: "pa.RecordBatch", index: int, where: str, key: str | None, max_bytes: int
) -> SubjectRecord | BadRecord:
    try:
        fields = {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except (ValueError, OverflowError, UnicodeDecodeError) as error:  # e.g. the year 10000
        return BadRecord(where, f"holds a value that Python cannot read: {_line(error)}")
    return _record(fields, where, key, max_bytes)


def read_sql(source: "SqlSource") -> Iterator[SubjectRecord | BadRecord]:
    """The rows of a table or query, streamed in a transaction that cannot write.

    Whatever the database refuses is a ConfigurationError that never shows a secret of the URL.
    """
    url = _sql_url(source)
    connection = _connect(url)
    field = "table" if source.table else "query"
    with closing(connection):
        try:
            deadline = _Deadline(connection, _STATEMENT_SECONDS)
            result = _execute(connection, source)
            names = list(result.keys())
            if len(set(names)) < len(names):
                raise ConfigurationError(
                    f"subjects.{field}: two columns have the same name; "
                    "name each column once with AS"
                )
            _check_key(source.key, names, source.place)
            for row, values in enumerate(result, start=1):
                fields = dict(zip(names, values, strict=True))
                yield _record(fields, f"{source.place}:{row}", source.key, source.max_record_bytes)
                deadline.renew()
        except (sa.exc.SQLAlchemyError, ValueError) as error:  # ValueError: e.g. the year 10000
            if deadline.ended(error):
                raise ConfigurationError(
                    f"subjects.{field}: {shown_url(url)} gave no rows within its statement timeout"
                    f" ({_STATEMENT_SECONDS:g} seconds where it sets none); make the query faster"
                ) from None
            raise ConfigurationError(
                f"subjects.{field}: {shown_url(url)} refused it: {_driver_line(error, url)}"
            ) from None


def _sql_url(source: "SqlSource") -> sa.URL:
    try:
        url = parse_url(source.resolved_url())
    except ValueError as fault:
        raise ConfigurationError(f"subjects.url: {fault}") from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg2")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        # SQLite would create it.
        raise ConfigurationError(f"subjects.url: there is no SQLite file {url.database or ''!r}")
    return url


def _connect(url: sa.URL) -> sa.Connection:
    arguments = _CONNECT_ARGUMENTS.get(url.drivername, {})
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    except (sa.exc.SQLAlchemyError, ImportError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"subjects.url: the driver {url.drivername} cannot be used: {_driver_line(error, url)}"
        ) from None
    try:
        return engine.connect()
    except (sa.exc.SQLAlchemyError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"subjects.url: cannot connect to {shown_url(url)}: {_driver_line(error, url)}"
        ) from None


def _execute(connection: sa.Connection, source: "SqlSource") -> sa.CursorResult[Any]:
    backend = connection.dialect.name
    if backend == "postgresql":
        connection = connection.execution_options(postgresql_readonly=True)
        connection.execute(_POSTGRESQL_TIMEOUT, {"limit": f"{_STATEMENT_SECONDS * 1000:.0f}"})
    elif backend in _READ_ONLY:
        connection.exec_driver_sql(_READ_ONLY[backend])
    connection = connection.execution_options(stream_results=True, yield_per=_BATCH_ROWS)
    return connection.execute(_statement(source))


class _Deadline:
    """Ends a statement of SQLite that gives no row for ``seconds``; PostgreSQL has its own clock."""

    def __init__(self, connection: sa.Connection, seconds: float) -> None:
        self._seconds = seconds
        self.renew()
        if connection.dialect.name == "sqlite":
            driver_connection: Any = connection.connection.driver_connection
            driver_connection.set_progress_handler(self._over, 10_000)

    def renew(self) -> None:
        """The time the reader took for the rows before does not count."""
        self._until = time.monotonic() + self._seconds

    def ended(self, error: Exception) -> bool:
        """Whether the error says that a statement took too long."""
        cause = getattr(error, "orig", None)
        code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return code == _QUERY_CANCELED or str(cause) == "interrupted"

    def _over(self) -> bool:
        return time.monotonic() > self._until


def _statement(source: "SqlSource") -> sa.Executable:
    if source.query is not None:
        # A colon in the user's SQL is no bind parameter of ours.
        return sa.text(source.query.replace(":", "\\:"))
    schema, _, name = (source.table or "").rpartition(".")
    table = sa.table(name, schema=schema or None)
    statement: sa.Select[Any] = sa.select(sa.literal_column("*")).select_from(table)
    return statement if source.key is None else statement.order_by(sa.column(source.key))


_CONNECT_ARGUMENTS: Mapping[str, dict[str, Any]] = {
    driver: {"connect_timeout": _CONNECT_SECONDS}
    for driver in ("postgresql+psycopg2", "postgresql+psycopg", "mysql+pymysql", "mysql+mysqldb")
}
_QUERY_CANCELED = "57014"
_POSTGRESQL_TIMEOUT = sa.text(
    "SELECT set_config('statement_timeout', :limit, true)"
    " WHERE current_setting('statement_timeout') = '0'"
)
_READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}


def _record(
    fields: Mapping[str, Any], where: str, key: str | None, max_bytes: int
) -> SubjectRecord | BadRecord:
    try:
        return subject_record(_json_value(fields), key, max_bytes)
    except RecordError as error:
        return BadRecord(where, str(error))
    except RecursionError:
        return BadRecord(where, "nested too deeply")


def _json_value(value: Any) -> Any:
    """The JSON form of a column's value: what JSON has no type for becomes text.

    Bytes are their UTF-8 text where they are UTF-8, else base64.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dt.date() | dt.time():  # a datetime is a date
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            data = bytes(value)
            try:
                return data.decode()
            except UnicodeDecodeError:
                return base64.b64encode(data).decode()
        case Mapping():
            return {str(name): _json_value(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_json_value(item) for item in value]
        case _:  # decimals, time spans, UUIDs, whatever a driver knows
            return str(value)


def _check_key(key: str | None, names: list[str], place: str) -> None:
    if key is not None and key not in names:
        raise ConfigurationError(
            f"subjects.key: {place} has no column {key!r}; it has {', '.join(names)}"
        )


def _driver_line(error: Exception, url: sa.URL) -> str:
    """The first line of what a driver said, without a secret of the URL."""
    cause = getattr(error, "orig", None) or error
    return _first_line(redacted(str(cause), url)) or type(error).__name__


def _line(error: BaseException) -> str:
    return _first_line(str(error)) or type(error).__name__


def _first_line(text: str) -> str:
    """What follows it is the driver's advice."""
    return next(iter(text.strip().splitlines()), "")[:300]
