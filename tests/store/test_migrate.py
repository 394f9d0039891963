"""The schema: its migrations, several starters at once, and databases that cannot be used."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import resources.migrate
from resources.database import create_engine
from resources.errors import ConfigurationError
from resources.migrate import HEAD, migrate
from resources.store_schema import SCHEMA, metadata
from tests.store.workshop import execute, fetch

STARTER = """
import sys
from resources.database import create_engine
from resources.migrate import migrate
migrate(create_engine(sys.argv[1]))
print("alembic" in sys.modules)
"""


def start(url: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", STARTER, url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def differences(engine: sa.Engine) -> list[Any]:
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
        "version_table": "schema_version",
        "version_table_schema": SCHEMA,
    }
    # Alembic takes the schema named like the role for the nameless default.
    plain = sa.create_engine(engine.url, connect_args={"options": "-csearch_path=public"})
    with plain.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        found = list(compare_metadata(context, metadata))
    plain.dispose()
    return found


@pytest.fixture
def empty_engine(empty_postgres_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(empty_postgres_url)
    yield engine
    engine.dispose()


def test_migrations_make_the_tables_that_the_code_knows(empty_engine: sa.Engine) -> None:
    migrate(empty_engine)
    assert differences(empty_engine) == []
    execute(empty_engine, "ALTER TABLE forge.runs DROP COLUMN host")
    assert [difference[0] for difference in differences(empty_engine)] == ["add_column"]


def test_the_version_known_to_the_code_is_the_newest_migration() -> None:
    config = Config()
    folder = Path(resources.migrate.__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_processes_that_start_at_once_migrate_once(empty_postgres_url: str) -> None:
    starters = [start(empty_postgres_url) for _ in range(3)]
    outcomes = [starter.communicate(timeout=60) for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0, 0], outcomes
    assert [errors for _, errors in outcomes] == ["", "", ""]
    # One that comes later has nothing to do and does not even load alembic.
    late = start(empty_postgres_url)
    assert late.communicate(timeout=60)[0].strip() == "False"
    engine = create_engine(empty_postgres_url)
    assert fetch(engine, "SELECT version_num FROM forge.schema_version") == [{"version_num": HEAD}]
    engine.dispose()


def test_a_database_of_others_or_of_later_code(empty_engine: sa.Engine) -> None:
    dagsters = "CREATE TABLE public.alembic_version AS SELECT 'dagsters' AS version_num"
    execute(empty_engine, dagsters)
    migrate(empty_engine)
    migrate(empty_engine)
    versions = fetch(empty_engine, "SELECT * FROM public.alembic_version")
    assert versions == [{"version_num": "dagsters"}]
    execute(empty_engine, "UPDATE forge.schema_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="version '9999', newer than this code"):
        migrate(empty_engine)


def test_a_role_without_rights_is_named(empty_engine: sa.Engine) -> None:
    owner = empty_engine
    name = f"guest_{owner.url.database}"
    execute(owner, f"CREATE ROLE {name} LOGIN PASSWORD 'guest'")
    guest = create_engine(owner.url.set(username=name, password="guest"))
    with pytest.raises(ConfigurationError, match=f"the role '{name}' needs CREATE on the database"):
        migrate(guest)
    guest.dispose()
    execute(owner, f"DROP ROLE {name}")
