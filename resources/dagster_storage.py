"""Dagster's own storage in the project's database, as dagster.yaml names it."""

from typing import Any

import sqlalchemy
from dagster import DagsterInstance
from dagster._config.config_schema import UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy.pool import NullPool

from resources.database import (
    PROJECT_ROOT,
    create_engine,
    database_url,
    embedded_postgres,
    revive_on_connect,
    uses_embedded_postgres,
)
from resources.errors import Refusal

# Two processes that create Dagster's tables at once fail on each other (types, alembic's stamp).
CREATION_LOCK = 0x666F7267655F6473


class ForgeDagsterStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage on ``database_url()``, schema public; it takes no config."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        url = database_url()
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(CREATION_LOCK)))
            super().__init__(postgres_url=in_public_schema(url), inst_data=inst_data)
        self._keep_connections()

    def _keep_connections(self) -> None:
        """Two, since some queries overlap. Otherwise Dagster's three storages connect anew for every
        event, which is a second in every run."""
        pooled = create_engine(
            self.postgres_url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=20
        )
        if uses_embedded_postgres():
            revive_on_connect(pooled, embedded_postgres())
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = pooled

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "ForgeDagsterStorage":
        return cls(inst_data=inst_data)


def in_public_schema(url: str) -> str:
    """The URL with ``public`` as its only schema.

    Dagster does not qualify its tables, and for a role named ``forge`` PostgreSQL would look for
    ``runs`` in our schema of that name first.
    """
    parsed = sqlalchemy.make_url(url)
    given = parsed.query.get("options", "")
    options = given if isinstance(given, str) else " ".join(given)
    query = {"options": f"{options} -csearch_path=public".strip()}
    return parsed.update_query_dict(query).render_as_string(hide_password=False)


def is_forge_instance(instance: DagsterInstance) -> bool:
    """Whether the instance keeps runs and events in the project's database."""
    ours = _place(database_url())
    storages = (instance.run_storage, instance.event_log_storage)
    return all(_place(getattr(storage, "postgres_url", "")) == ours for storage in storages)


def require_forge_instance(instance: DagsterInstance) -> None:
    """Refusal unless the instance keeps its records in the project's database.

    A run on a throw-away instance would hide from the gate of the next stage.
    """
    if not is_forge_instance(instance):
        raise Refusal(
            f"this Dagster instance is not the project's: set DAGSTER_HOME to {PROJECT_ROOT}"
        )


def _place(url: str) -> tuple[object, ...] | None:
    """Server and database of a URL, whatever the driver; None when it is no URL."""
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return None
    host = parsed.host or parsed.query.get("host")
    port = str(parsed.port or parsed.query.get("port") or 5432)
    return (host, port, parsed.database)
