"""A home with an embedded server of its own, and processes that use it."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psutil

from resources.postgres_instance import locate
from resources.processes import wait_until_ended
from tests.postgres import in_temporary_home, python_path, remove_instance

PROJECT_ROOT = Path(__file__).resolve().parents[1]
WAIT_SECONDS = 60

# A user of the database: connects, says so, and lives until its standard input closes.
USER = """
import sys
from resources.database import create_engine, database_url, open_engine
engine = open_engine() if "migrated" in sys.argv else create_engine(database_url())
with engine.connect() as connection:
    name = connection.exec_driver_sql("SELECT current_database()").scalar()
# Not inside the block: the server may be killed as soon as somebody has read this.
print(name, flush=True)
for line in sys.stdin:
    with engine.connect() as connection:
        print(connection.exec_driver_sql(line).scalar(), flush=True)
"""


class Home:
    """A user's home with an embedded server of its own, and the processes that use it."""

    def __init__(self, folder: Path, project_root: Path = PROJECT_ROOT) -> None:
        self.folder = folder
        self.environment = os.environ | in_temporary_home(folder)
        self.environment["PYTHONPATH"] = python_path(project_root)
        self.environment.pop("FORGE_DATABASE_URL", None)
        self.instance = locate(project_root, folder / "data" / "forge-assets")
        self.users: list[subprocess.Popen[str]] = []

    def start_user(self, *arguments: str) -> "subprocess.Popen[str]":
        user = subprocess.Popen(
            [sys.executable, "-c", USER, *arguments],
            cwd="/",
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.users.append(user)
        return user

    def connected_user(self, *arguments: str) -> "subprocess.Popen[str]":
        user = self.start_user(*arguments)
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


def stale_socket_lock(home: Home) -> Path:
    folder = home.instance.socket_folder()
    assert folder is not None
    return Path(folder) / ".s.PGSQL.5432.lock"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def copy_resources(root: Path) -> None:
    """Make ``root`` a checkout with nothing but the package ``resources``."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT_ROOT / "resources", root / "resources", ignore=skip)
