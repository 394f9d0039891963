"""The unprivileged system user that runs PostgreSQL for root, since PostgreSQL refuses root."""

import contextlib
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from resources.errors import ConfigurationError
from resources.private_files import locked, make_private_folder


class Identity(TypedDict, total=False):
    """Keyword arguments of ``subprocess`` that run a program as somebody else."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    name: str
    uid: int
    gid: int

    def identity(self) -> Identity:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def service_account(name: str, home: Path) -> ServiceAccount:
    """The system user ``name``, made with useradd where it is missing. Only root may ask."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        entry = _add(name, home)
    if entry.pw_uid == 0:
        raise ConfigurationError(
            f"the user {name} is root under another name and PostgreSQL refuses root: "
            "remove that user, or set FORGE_DATABASE_URL to a PostgreSQL database."
        )
    return ServiceAccount(name, entry.pw_uid, entry.pw_gid)


def _add(name: str, home: Path) -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home"]
    command += ["--home-dir", str(home), "--shell", "/usr/sbin/nologin", name]
    try:
        make_private_folder(home, mode=0o711)
        # One at a time: a second useradd in the same moment fails on the lock of /etc/passwd.
        with locked(home / "install.lock"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
            return pwd.getpwnam(name)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
    except (OSError, KeyError) as error:
        reason = str(error)
    raise ConfigurationError(
        f"PostgreSQL refuses to run as root and the system user {name} could not be made "
        f"({reason}): run as a normal user, or set FORGE_DATABASE_URL to a PostgreSQL database."
    )
