"""FORGE_DATABASE_URL: accepted, normalised, or refused with one sentence without the password."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy

from resources.database import create_engine, database_url, normalised, open_engine
from resources.errors import ConfigurationError
from resources.migrate import migrate
from tests.postgres import TestServer, database_text

PASSWORD = "pass-w0rd-in-no-message"


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> "Variable":
    return Variable(monkeypatch)


class Variable:
    """Sets FORGE_DATABASE_URL for one test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def set(self, url: "str | sqlalchemy.URL") -> None:
        text = url if isinstance(url, str) else database_text(url)
        self._patch.setenv("FORGE_DATABASE_URL", text)

    def refused(self, url: "str | sqlalchemy.URL") -> str:
        """The sentence that the URL is refused with."""
        self.set(url)
        with pytest.raises(ConfigurationError) as refusal:
            database_url()
        sentence = str(refusal.value)
        assert sentence.startswith("FORGE_DATABASE_URL")
        assert sentence.count("\n") == 0
        assert PASSWORD not in sentence
        return sentence


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg", "postgresql+asyncpg"],
)
def test_driver_is_normalised(scheme: str) -> None:
    url = normalised(f"{scheme}://user:p%40ss@host:1234/name?sslmode=require")
    assert url.drivername == "postgresql+psycopg2"
    assert (url.password, url.port, url.database) == ("p@ss", 1234, "name")
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"user:{PASSWORD}@host/name", "is not a URL"),
        (f"postgresql://user:{PASSWORD}@host:port/name", "is not a URL"),
        (f"mysql://user:{PASSWORD}@host/name", "names mysql, and only PostgreSQL"),
        ("sqlite:///forge.db", "names sqlite, and only PostgreSQL"),
    ],
)
def test_what_is_no_postgresql_url(variable: Variable, url: str, part: str) -> None:
    assert part in variable.refused(url)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"postgresql://u:s3c@{PASSWORD}@127.0.0.1:9/x", "percent-encode the password"),
        (f"postgresql://u:s3c@{PASSWORD}/@127.0.0.1:9/x", "percent-encode the password"),
        (f"postgresql://u:%zz%00{PASSWORD}@127.0.0.1:9/x", "holds a NUL character"),
        (f"postgresql://u:{PASSWORD}/@127.0.0.1:1/name", "'name' at 127.0.0.1:1 cannot be used"),
        (f"postgresql://127.0.0.1:1/name?password={PASSWORD}", "cannot be used"),
        (f"postgresql://127.0.0.1:1/name?gssencmode={PASSWORD}", "invalid gssencmode value"),
    ],
)
def test_a_password_in_any_form_is_in_no_message(variable: Variable, url: str, part: str) -> None:
    assert part in variable.refused(url)


def test_unreachable_server(variable: Variable) -> None:
    sentence = variable.refused(f"postgresql://user:{PASSWORD}@127.0.0.1:1/name")
    assert "database 'name' at 127.0.0.1:1 cannot be used (Connection refused)" in sentence


def test_unknown_parameter(variable: Variable) -> None:
    url = f"postgresql://user:{PASSWORD}@127.0.0.1:1/name?no_such_option=1"
    assert "no_such_option" in variable.refused(url)


def test_wrong_password(variable: Variable, postgres_server: TestServer) -> None:
    sentence = variable.refused(postgres_server.empty().set(password=PASSWORD))
    assert "password authentication failed" in sentence


def test_missing_database(variable: Variable, postgres_server: TestServer) -> None:
    url = postgres_server.empty().set(database="no_such_database")
    assert 'database "no_such_database" does not exist' in variable.refused(url)


_roles = (f"role_{number}" for number in itertools.count(1))


class Limited:
    """A database, and a role on its server that is no superuser."""

    def __init__(self, owner: sqlalchemy.URL) -> None:
        self.owner = owner
        self.role = next(_roles)
        self.url = owner.set(username=self.role, password=PASSWORD)
        self.run(f"CREATE ROLE {self.role} LOGIN PASSWORD '{PASSWORD}'")

    def run(self, *statements: str) -> None:
        engine = create_engine(self.owner, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()


@pytest.fixture
def limited(postgres_server: TestServer) -> Limited:
    return Limited(postgres_server.empty())


def test_role_that_may_not_create_the_schema(variable: Variable, limited: Limited) -> None:
    limited.run(f"GRANT CREATE ON SCHEMA public TO {limited.role}")
    sentence = variable.refused(limited.url)
    database = limited.owner.database
    assert f"run GRANT CREATE ON DATABASE {database} TO {limited.role}." in sentence


def test_role_that_may_not_use_the_schema(variable: Variable, limited: Limited) -> None:
    limited.run("CREATE SCHEMA forge", f"GRANT USAGE ON SCHEMA forge TO {limited.role}")
    sentence = variable.refused(limited.url)
    assert f"run GRANT USAGE, CREATE ON SCHEMA forge TO {limited.role}." in sentence


def test_role_that_may_not_write_a_table(variable: Variable, limited: Limited) -> None:
    engine = create_engine(limited.owner)
    migrate(engine)
    engine.dispose()
    limited.run(
        f"GRANT USAGE, CREATE ON SCHEMA public, forge TO {limited.role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA forge TO {limited.role}",
    )
    assert "may not read and write the table forge." in variable.refused(limited.url)


def test_role_that_may_not_create_dagsters_tables(variable: Variable, limited: Limited) -> None:
    limited.run(f"GRANT CREATE ON DATABASE {limited.owner.database} TO {limited.role}")
    sentence = variable.refused(limited.url)
    assert f"run GRANT USAGE, CREATE ON SCHEMA public TO {limited.role}." in sentence


def test_read_only_database(variable: Variable, limited: Limited) -> None:
    database = limited.owner.database
    limited.run(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    assert "read-only" in variable.refused(limited.url)


def test_other_encoding(variable: Variable, limited: Limited) -> None:
    limited.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    assert "encoding is LATIN1" in variable.refused(limited.url.set(database="latin"))


def test_role_with_just_the_rights(variable: Variable, limited: Limited) -> None:
    limited.run(
        f"GRANT CREATE ON DATABASE {limited.owner.database} TO {limited.role}",
        f"GRANT CREATE ON SCHEMA public TO {limited.role}",
    )
    variable.set(limited.url)
    assert database_url() == database_text(limited.url)
    with open_engine().connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM forge.subjects").scalar() == 0


def test_engine_of_a_process_is_one(forge_database: str) -> None:
    engine = open_engine()
    assert engine is open_engine()
    assert engine.url.render_as_string(hide_password=False) == forge_database
    assert str(engine.url.password) not in repr(engine)


def test_first_use_by_several_processes_at_once(empty_postgres_url: str) -> None:
    script = "from resources.database import open_engine; open_engine()"
    environment = os.environ | {"FORGE_DATABASE_URL": empty_postgres_url}
    users = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    ended = [(user.communicate()[1], user.returncode) for user in users]
    assert ended == [("", 0)] * 4


@pytest.fixture
def forked(forge_database: str) -> Iterator[int]:
    """The result of a query over the engine in a forked child, while the parent uses it too."""
    engine = open_engine()
    with engine.connect() as connection:
        parent = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with engine.connect() as connection:
                found = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
                os.write(writing, str(found).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == parent
    yield int(os.read(reading, 100)) - int(parent or 0)
    os.close(reading)


def test_forked_child_has_connections_of_its_own(forked: int) -> None:
    assert forked != 0
