"""A database of a benchmark's own on the project's server, dropped afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from resources.database import create_engine, database_url


@contextmanager
def own_database() -> Iterator[str]:
    """Its URL, password included. The user's data lie in another database."""
    server = sa.make_url(database_url())
    name = f"forge_bench_{os.getpid()}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
