"""Alembic environment of the schema ``forge``."""
