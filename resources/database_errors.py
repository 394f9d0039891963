"""What the database raises, told in one sentence."""

from resources.errors import InfrastructureError

KEPT = "what was committed stays, the same command goes on from there"


def database_errors() -> tuple[type[Exception], ...]:
    """What the database raises, and Dagster in its place; looked up only when something was raised."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import DBAPIError

    return DBAPIError, DagsterPostgresException


def database_sentence(error: Exception) -> InfrastructureError:
    """Whether the database is away, or is there and refused what it was asked."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    if isinstance(error, DagsterPostgresException) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    reason = " ".join(str(error).split("\n", 1)[0].split())
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if lost or isinstance(error, OperationalError | InterfaceError):
        return InfrastructureError(f"the database does not answer: {reason}; {KEPT}")
    return InfrastructureError(f"the database refused a statement: {reason}")
