"""The one PostgreSQL of this project: the embedded server, or the one FORGE_DATABASE_URL names."""

import functools
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from resources.embedded_postgres import EmbeddedPostgres
from resources.errors import ConfigurationError
from resources.postgres_instance import locate
from resources.source_url import parse_url, redacted

VARIABLE = "FORGE_DATABASE_URL"
DRIVER = "postgresql+psycopg2"
CONNECT_SECONDS = 5
HANGING_SECONDS = 60
SILENT_HOST = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""For libpq: a host that answers nothing any more, not even with a refusal, is given up in 30 s."""
POOL_SIZE = 32
"""Connections of one process, opened as they are needed: PostgreSQL grants 100 to all unless told."""
PROJECT_ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"

_one_at_a_time = threading.RLock()
_urls: dict[str, str] = {}
_engines: dict[str, sqlalchemy.Engine] = {}
_pools: weakref.WeakSet[sqlalchemy.Engine] = weakref.WeakSet()


def database_url() -> str:
    """SQLAlchemy URL of the database, password included: never print it.

    The embedded server is started if need be and kept until this process ends. Cheap after the
    first call. ConfigurationError when FORGE_DATABASE_URL is malformed, unreachable, or its role
    lacks rights.
    """
    given = os.environ.get(VARIABLE, "").strip()
    with _one_at_a_time:
        if given not in _urls:
            url = _external(given) if given else embedded_postgres().open()
            _urls[given] = url.render_as_string(hide_password=False)
        return _urls[given]


@functools.cache
def embedded_postgres() -> EmbeddedPostgres:
    """This process' hold on the embedded server of this checkout; not opened by asking."""
    return EmbeddedPostgres(locate(PROJECT_ROOT))


def uses_embedded_postgres() -> bool:
    """Whether FORGE_DATABASE_URL names no other server."""
    return not os.environ.get(VARIABLE, "").strip()


def open_engine() -> sqlalchemy.Engine:
    """The pooled engine of this process, its schema ``forge`` migrated."""
    from resources.migrate import migrate

    url = database_url()
    with _one_at_a_time:
        if url not in _engines:
            engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=0)
            if uses_embedded_postgres():
                revive_on_connect(engine, embedded_postgres())
            migrate(engine)
            _engines[url] = engine
        return _engines[url]


def create_engine(url: str | sqlalchemy.URL, **options: Any) -> sqlalchemy.Engine:
    """A pooled engine on ``url``; the schema is not looked at."""
    engine = sqlalchemy.create_engine(
        url,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "forge",
            **SILENT_HOST,
        },
        **options,
    )
    event.listen(engine, "connect", _end_hanging_transactions)
    _pools.add(engine)
    return engine


def _end_hanging_transactions(connection: Any, record: Any) -> None:
    """A process that is stopped inside a transaction must not hold its rows for ever."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{HANGING_SECONDS}s'")
    connection.commit()


def revive_on_connect(engine: sqlalchemy.Engine, server: EmbeddedPostgres) -> None:
    """Let new connections of ``engine`` survive the server's death: wait for it, or start it."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
        try:
            return dialect.connect(*arguments, **parameters)
        except dialect.loaded_dbapi.OperationalError:
            server.ensure_running()
            return dialect.connect(*arguments, **parameters | {"host": server.url().query["host"]})


def _forget_connections() -> None:
    """A forked child must not talk over its parent's connections."""
    for engine in list(_pools):
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


def _external(given: str) -> sqlalchemy.URL:
    url = normalised(given)
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            problem = missing_right(connection)
    except (sqlalchemy.exc.SQLAlchemyError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{VARIABLE}: {place(url)} cannot be used ({_reason(error, url)}): start that server, "
            "correct the URL, or unset the variable for the embedded server."
        ) from None
    if problem is not None:
        raise ConfigurationError(f"{VARIABLE}: {place(url)} cannot be used: {problem}.")
    return url


def normalised(given: str) -> sqlalchemy.URL:
    """``given`` with the driver psycopg2; ConfigurationError when it is no PostgreSQL URL."""
    try:
        url = parse_url(given)
    except ValueError as fault:
        raise ConfigurationError(
            f"{VARIABLE} {fault}; or unset the variable for the embedded server."
        ) from None
    if url.drivername.split("+")[0] not in ("postgresql", "postgres"):
        raise ConfigurationError(
            f"{VARIABLE} names {url.drivername}, and only PostgreSQL can be used: write {EXAMPLE}, "
            "or unset the variable for the embedded server."
        )
    return url.set(drivername=DRIVER)


def place(url: sqlalchemy.URL) -> str:
    """Host, port and database for a message; never the password."""
    host = url.host or url.query.get("host") or "the default host"
    return f"database {url.database or url.username!r} at {host}:{url.port or 5432}"


def _reason(error: Exception, url: sqlalchemy.URL) -> str:
    """What the server or the driver said, in one line, without a secret of the URL."""
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    lines = redacted(str(cause), url).strip().splitlines() or [type(error).__name__]
    return lines[0].split(" failed: ")[-1].removeprefix("FATAL:").strip().rstrip(".")


def missing_right(connection: sqlalchemy.Connection) -> str | None:
    """What keeps us from creating and using the schemas ``forge`` and, for Dagster, ``public``."""
    found = connection.execute(sqlalchemy.text(RIGHTS)).one()
    role, database = found.role, found.database
    if found.read_only:
        return "it is read-only, a standby perhaps; name the primary server"
    if found.encoding != "UTF8":
        return f"its encoding is {found.encoding}; make one with ENCODING 'UTF8'"
    if not found.forge_exists and not found.may_create_schema:
        return (
            f"the role {role} may not create the schema forge; "
            f"run GRANT CREATE ON DATABASE {database} TO {role}"
        )
    if found.forge_exists and not found.may_use_forge:
        return (
            f"the role {role} may not use the schema forge; "
            f"run GRANT USAGE, CREATE ON SCHEMA forge TO {role}"
        )
    if found.closed_table is not None:
        return (
            f"the role {role} may not read and write the table {found.closed_table}; "
            f"run GRANT ALL ON ALL TABLES IN SCHEMA forge TO {role}, or use the role that owns it"
        )
    if not found.may_use_public:
        return (
            f"the role {role} may not create Dagster's tables; "
            f"run GRANT USAGE, CREATE ON SCHEMA public TO {role}"
        )
    return None


# In a list such as 'USAGE, CREATE' PostgreSQL asks for any of them, hence one call each.
RIGHTS = """
SELECT current_user AS role,
       current_database() AS database,
       current_setting('transaction_read_only') = 'on' AS read_only,
       current_setting('server_encoding') AS encoding,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       forge.oid IS NOT NULL AS forge_exists,
       has_schema_privilege(forge.oid, 'USAGE') AND has_schema_privilege(forge.oid, 'CREATE')
           AS may_use_forge,
       (SELECT format('forge.%I', relname) FROM pg_class
         WHERE relnamespace = forge.oid AND relkind IN ('r', 'p')
           AND NOT (has_table_privilege(pg_class.oid, 'SELECT')
                    AND has_table_privilege(pg_class.oid, 'INSERT')
                    AND has_table_privilege(pg_class.oid, 'UPDATE')
                    AND has_table_privilege(pg_class.oid, 'DELETE'))
         ORDER BY relname LIMIT 1) AS closed_table,
       coalesce(has_schema_privilege(public.oid, 'USAGE')
                AND (has_schema_privilege(public.oid, 'CREATE')
                     OR has_table_privilege(to_regclass('public.event_logs'), 'INSERT')), false)
           AS may_use_public
  FROM (SELECT to_regnamespace('forge') AS oid) AS forge,
       (SELECT to_regnamespace('public') AS oid) AS public
"""
