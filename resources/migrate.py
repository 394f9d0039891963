"""Bring the schema ``forge`` to the version this code knows."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from resources.errors import ConfigurationError
from resources.store_schema import SCHEMA

HEAD = "0008"
"""The newest migration; known here so that the usual start needs no alembic."""

_LOCK_KEY = 0x666F7267655F6462
_UNDEFINED = ("3F000", "42P01")  # no such schema, no such table
_NO_RIGHTS = "42501"
_one_at_a_time = threading.Lock()  # alembic keeps its context in module globals


def migrate(engine: sa.Engine) -> None:
    """Apply what is missing: one query when that is nothing, safe for processes that start at once.

    ConfigurationError when the database is newer than the code or its role lacks the rights.
    """
    if _version(engine) == HEAD:
        return
    try:
        with _one_at_a_time, engine.begin() as connection:
            # Held to the end of the transaction; who waits here finds nothing left to do.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            with _quiet():
                _upgrade(connection)
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != _NO_RIGHTS:
            raise
        message = str(error.orig).strip().splitlines()[0]
        raise ConfigurationError(
            f"FORGE_DATABASE_URL: {message}; the role {engine.url.username!r} needs"
            f" CREATE on the database {engine.url.database!r} to set up schema {SCHEMA!r}"
        ) from None


def _version(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        try:
            query = f"SELECT version_num FROM {SCHEMA}.schema_version"
            return connection.exec_driver_sql(query).scalar_one_or_none()
        except sa.exc.ProgrammingError as error:
            if getattr(error.orig, "pgcode", None) not in (*_UNDEFINED, _NO_RIGHTS):
                raise
            return None


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    # Alembic reads the value with ConfigParser, where a percent sign is special.
    folder = str(Path(__file__).with_name("migrations")).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    current = _current(connection)
    try:
        if current is not None:
            ScriptDirectory.from_config(config).get_revision(current)
    except CommandError:
        raise ConfigurationError(
            f"the database's schema {SCHEMA!r} has version {current!r}, newer than this code"
            f" ({HEAD!r}); update forge-assets or point FORGE_DATABASE_URL to another database"
        ) from None
    command.upgrade(config, "head")


def _current(connection: sa.Connection) -> str | None:
    table = f"{SCHEMA}.schema_version"
    exists = connection.execute(sa.text("SELECT to_regclass(:name)"), {"name": table}).scalar()
    if exists is None:
        return None
    return connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar_one_or_none()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep alembic's progress lines out of a program whose root logger is verbose."""
    logger = logging.getLogger("alembic")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
