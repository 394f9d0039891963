"""Run the migrations on the connection that ``resources.migrate`` hands over."""

from alembic import context

from resources.store_schema import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="schema_version",
    version_table_schema=SCHEMA,
)
context.run_migrations()
