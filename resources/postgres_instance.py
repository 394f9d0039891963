"""Where the embedded PostgreSQL of one checkout lives, who runs it, and with which binaries."""

import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from resources.errors import ConfigurationError
from resources.private_files import make_private_folder, write_atomically
from resources.service_account import ServiceAccount, service_account

APPLICATION = "forge-assets"
ROOT_HOME = Path("/var/lib") / APPLICATION
MAJOR_VERSION = "18"
SUPERUSER = "forge"
DATABASE = "forge"
PORT = 5432  # only the last part of the socket's name; no TCP port is opened
SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un holds 104 (macOS) to 108 (Linux)
WAY_OUT = "or set FORGE_DATABASE_URL to a PostgreSQL database"


@dataclass(frozen=True, slots=True)
class PostgresInstance:
    """The files of one embedded server. Nothing here exists before ``create``."""

    folder: Path

    @property
    def account(self) -> ServiceAccount | None:
        """The unprivileged user that runs the server when we are root; made on first use."""
        return service_account(APPLICATION, ROOT_HOME) if os.geteuid() == 0 else None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def users_lock(self) -> Path:
        """Users hold it shared for life; the keeper stops the server once it holds it alone."""
        return self.folder / "users.lock"

    @property
    def start_lock(self) -> Path:
        """Held while a user looks for a server and starts one."""
        return self.folder / "start.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the one keeper for its life."""
        return self.folder / "keeper.lock"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def access_file(self) -> Path:
        """Who may connect (pg_hba.conf)."""
        return self.folder / "access.conf"

    @property
    def password_file(self) -> Path:
        return self.folder / "password"

    def create(self) -> None:
        """Make the private folder. Modes of folders that exist above it are left alone."""
        account = self.account
        try:
            if account is None:
                make_private_folder(self.folder)
                return
            make_private_folder(ROOT_HOME, mode=0o711)
            make_private_folder(self.folder)
            # The server's user may pass through, and change nothing that root reads here.
            os.chown(self.folder, 0, account.gid)
            self.folder.chmod(0o710)
        except OSError as error:
            fix = "make it writable" if account else "set XDG_DATA_HOME to a writable folder"
            raise ConfigurationError(
                f"the folder {self.folder} for the embedded PostgreSQL cannot be made "
                f"({error.strerror or error}): {fix}, {WAY_OUT}."
            ) from None

    def make_password(self) -> None:
        if not self.password_file.exists():
            write_atomically(self.password_file, secrets.token_urlsafe(32))
            self.give(self.password_file)

    def give(self, path: Path) -> None:
        """Hand a file or folder to the user that runs the server."""
        account = self.account
        if account is not None:
            os.chown(path, account.uid, account.gid)

    def password(self) -> str:
        return self.password_file.read_text()

    def state(self) -> dict[str, object]:
        """What the keeper last wrote: ``socket_folder``, process ids ``postmaster``, ``keeper``."""
        try:
            content = json.loads(self.state_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return content if isinstance(content, dict) else {}

    def socket_folder(self) -> str | None:
        folder = self.state().get("socket_folder")
        return folder if isinstance(folder, str) else None

    def make_socket_folder(self) -> Path:
        """A folder of mode 0700 whose socket path fits; the last one where it still is ours."""
        own = self.folder / "socket"
        last = self.socket_folder()
        if fits_socket(own):
            chosen = own
            own.mkdir(mode=0o700, exist_ok=True)
        elif last is not None and last != str(own) and self._is_ours(Path(last)):
            return Path(last)
        else:
            places = [Path(tempfile.gettempdir()), Path("/tmp")]
            short = next((p for p in places if fits_socket(p / "forge-12345678")), None)
            if short is None:
                raise ConfigurationError(
                    "no folder is short enough for a Unix socket: "
                    f"set TMPDIR to a short path, {WAY_OUT}."
                )
            chosen = Path(tempfile.mkdtemp(prefix="forge-", dir=short))
        chosen.chmod(0o700)
        self.give(chosen)
        return chosen

    def _is_ours(self, folder: Path) -> bool:
        try:
            found = folder.lstat()
        except OSError:
            return False
        account = self.account
        owner = os.geteuid() if account is None else account.uid
        return (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == owner
            and stat.S_IMODE(found.st_mode) == 0o700
        )


def locate(project_root: Path, data_home: Path | None = None) -> PostgresInstance:
    """The instance of a checkout for the current user: one for each (checkout, data folder)."""
    home = Path(data_home or platformdirs.user_data_dir(APPLICATION)).absolute()
    root = project_root.resolve()
    digest = hashlib.sha256(f"{root}\0{home}".encode(errors="surrogateescape")).hexdigest()[:12]
    if os.geteuid() == 0:
        return PostgresInstance(ROOT_HOME / digest)
    if home.resolve().is_relative_to(root):
        raise ConfigurationError(
            f"the user's data folder {home} lies below the checkout {root}: "
            f"set XDG_DATA_HOME to a folder outside it, {WAY_OUT}."
        )
    return PostgresInstance(home / digest)


def fits_socket(folder: Path) -> bool:
    """Whether a server can listen there: a short path without what libpq reads as separators."""
    path = str(folder / f".s.PGSQL.{PORT}")
    return (
        len(os.fsencode(path)) <= SOCKET_PATH_LIMIT
        and re.fullmatch(r"[\w./@+~-]+", path, re.ASCII) is not None
    )
