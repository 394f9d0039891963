"""A copy of the whole database in one file, and back, embedded or by FORGE_DATABASE_URL.

``python -m deploy.store_backup dump FILE`` and ``python -m deploy.store_backup restore FILE``, by the
programs that come with the embedded PostgreSQL. Both kinds of rows are in it: the store's
and Dagster's.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy

from resources.database import database_url
from resources.errors import ConfigurationError, ForgeError
from resources.postgres_binaries import find_binaries

EXTENSION_OF_UNFINISHED = ".unfinished"


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 2 and one sentence when the database, or the file, cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m deploy.store_backup")
    parser.add_argument("action", choices=["dump", "restore"])
    parser.add_argument("file", type=Path)
    given = parser.parse_args(arguments)
    try:
        url = sqlalchemy.make_url(database_url())
        (dump if given.action == "dump" else restore)(url, given.file)
    except ForgeError as error:
        sys.stderr.write(f"store_backup: {error}\n")
        return error.exit_code
    return 0


def dump(url: sqlalchemy.URL, file: Path) -> None:
    """Consistent while runs work. ``file`` is there when it is whole, readable by its owner alone."""
    unfinished = file.with_name(file.name + EXTENSION_OF_UNFINISHED)
    before = os.umask(0o077)
    try:
        options = ["--format=custom", "--no-owner", f"--file={unfinished}"]
        _run("pg_dump", f"--dbname={libpq(url)}", *options, password=url.password)
        unfinished.replace(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}.") from None
    finally:
        os.umask(before)
        unfinished.unlink(missing_ok=True)


def restore(url: sqlalchemy.URL, file: Path) -> None:
    """Instead of the store and of Dagster's records, whole or not at all. Nobody else may use the database
    meanwhile."""
    if not file.is_file():
        raise ConfigurationError(f"{file} is no file: name one that `store_backup dump` made.")
    with TemporaryDirectory() as folder:
        script = f"{folder}/restore.sql"
        _run("pg_restore", "--clean", "--if-exists", "--no-owner", f"--file={script}", str(file))
        options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction"]
        # What a newer version has added to the store is not in the dump, and would hold the rest.
        options += ["--command=DROP SCHEMA IF EXISTS forge CASCADE", f"--file={script}"]
        _run("psql", f"--dbname={libpq(url)}", *options, password=url.password)


def _run(program: str, *options: str, password: object = None) -> None:
    """ConfigurationError with the first line of what the program said."""
    # The same user as this process: the file is read and written by it.
    command = [str(find_binaries(None) / program), *options]
    environment = os.environ | {"PGPASSWORD": str(password or "")}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise ConfigurationError(f"{program}: {said[0]}")


def libpq(url: sqlalchemy.URL) -> str:
    """The URL as PostgreSQL's own programs read it, without the password."""
    bare = sqlalchemy.URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )
    return bare.render_as_string()


if __name__ == "__main__":
    sys.exit(main())
