"""One launch with the project's own clients, store and clock: what the command and the asset share."""

import getpass
import os
import socket
import time
from collections.abc import Callable

from forge_assets.launches.clouds import open_clouds
from forge_assets.launches.launch import Tools, launch, order_of
from forge_assets.launches.outcome import LaunchResult
from forge_assets.project import Project
from resources.cloud.regions import utc_now
from resources.locks import LockSpace, SessionLock


def launch_job(
    project: Project, name: str | None, direct: bool, tell: Callable[[str], None]
) -> LaunchResult:
    """``name``: of the job in forge.yaml, None for the only one.

    ConfigurationError without configuration or credentials, before anything is opened; Refusal when
    the preflight or the lease says no.
    """
    clouds = open_clouds(project.config.cloud)
    order = order_of(clouds, name, direct)
    if order.path == "queue":
        # Without its key nothing is begun.
        _ = clouds.wandb
    from resources.database import open_engine
    from resources.diagnosis_store import DiagnosisStore
    from resources.launch_store import LaunchStore

    engine = open_engine()
    tools = Tools(
        clouds=clouds,
        launches=LaunchStore(engine),
        diagnoses=DiagnosisStore(engine),
        lease=SessionLock(engine, LockSpace.LAUNCH, f"{clouds.project}/{order.name}"),
        holder=f"{_user()}@{socket.gethostname()} pid {os.getpid()}",
        now=utc_now,
        clock=time.monotonic,
        wait=time.sleep,
        tell=tell,
    )
    return launch(order, tools)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
