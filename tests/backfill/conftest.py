"""A project whose model is at a server, so that a run takes seconds, and whose queue has two slots."""

from collections.abc import Iterator

import pytest
import yaml

from tests.backfill.staged import Staged
from tests.chat_server import ChatServer
from tests.pipeline.project import ROOT, Project


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture
def staged(project: Project, chat_server: ChatServer) -> Staged:
    home = project.folder / "dagster_home"
    home.mkdir()
    instance = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    instance["concurrency"]["runs"]["max_concurrent_runs"] = 2
    (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
    project.environment["DAGSTER_HOME"] = str(home)
    return Staged(project, chat_server.url)
