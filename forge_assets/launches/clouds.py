"""The clients of one process, each made when it is first asked for."""

import os
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from forge_assets.cloud_config import CloudConfig
from resources.cloud.credentials import Access, access
from resources.errors import ConfigurationError

if TYPE_CHECKING:
    from resources.cloud.cloud_build import CloudBuild
    from resources.cloud.cloud_run import CloudRun
    from resources.cloud.logs import Logs
    from resources.cloud.vertex import Vertex
    from resources.cloud.wandb import Wandb

T = TypeVar("T")

NO_SECTION = (
    "forge.yaml has no section cloud: add"
    " `cloud: {project: YOUR-PROJECT, jobs: {train: {image: YOUR-IMAGE}}}`"
)


class Clouds:
    """Safe to share between threads. ConfigurationError where W&B is asked for without a key."""

    def __init__(self, config: CloudConfig, access: Access, environment: Mapping[str, str]) -> None:
        self.config = config
        self.access = access
        self.environment = environment
        self._lock = threading.Lock()

    @property
    def project(self) -> str:
        return self.access.project

    @cached_property
    def vertex(self) -> "Vertex":
        from resources.cloud.vertex import Vertex

        return self._one("vertex", lambda: Vertex(self.access))

    @cached_property
    def cloud_run(self) -> "CloudRun":
        from resources.cloud.cloud_run import CloudRun

        return self._one("cloud_run", lambda: CloudRun(self.access))

    @cached_property
    def cloud_build(self) -> "CloudBuild":
        from resources.cloud.cloud_build import CloudBuild

        return self._one("cloud_build", lambda: CloudBuild(self.access))

    @cached_property
    def logs(self) -> "Logs":
        from resources.cloud.logs import Logs

        return self._one("logs", lambda: Logs(self.access))

    @cached_property
    def wandb(self) -> "Wandb":
        from resources.cloud.wandb import Wandb, wandb_access

        return self._one("wandb", lambda: Wandb(wandb_access(self.environment)))

    def _one(self, name: str, make: Callable[[], T]) -> T:
        """What several threads ask for at once is made once: later Pythons' properties do not see to it."""
        with self._lock:
            if name not in self.__dict__:
                self.__dict__[name] = make()
            made: T = self.__dict__[name]
            return made


def open_clouds(config: CloudConfig | None, environment: Mapping[str, str] = os.environ) -> Clouds:
    """The clients of ``config``. ConfigurationError without the section, a project or credentials."""
    if config is None:
        raise ConfigurationError(NO_SECTION)
    return Clouds(config, access(config.project, environment), environment)
