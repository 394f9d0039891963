"""One plain connection to the embedded server, and what its refusal means."""

from pathlib import Path

import psycopg2
import psycopg2.extensions

from resources.errors import ConfigurationError
from resources.postgres_instance import DATABASE, PORT, SUPERUSER, PostgresInstance

CONNECT_SECONDS = 5
FULL = ("too many clients already", "remaining connection slots are reserved")


class NotThereError(Exception):
    """Nobody answers, or a server that is starting or ending."""


class ServerFullError(Exception):
    """A live server that has no connection left."""


def connect(instance: PostgresInstance, socket_folder: Path) -> psycopg2.extensions.connection:
    """NotThereError, ServerFullError; ConfigurationError when the password is another."""
    try:
        return psycopg2.connect(
            host=str(socket_folder),
            port=PORT,
            user=SUPERUSER,
            password=instance.password(),
            dbname=DATABASE,
            connect_timeout=CONNECT_SECONDS,
            application_name="forge keeper",
        )
    except FileNotFoundError as error:
        raise NotThereError(str(error)) from None
    except psycopg2.OperationalError as error:
        message = str(error).strip()
        if "password authentication failed" in message:
            raise ConfigurationError(
                f"the embedded PostgreSQL in {instance.folder} has another password than "
                f"{instance.password_file}: restore that file, or move the folder away."
            ) from None
        if any(sign in message for sign in FULL):
            raise ServerFullError(message) from None
        raise NotThereError(message) from None
