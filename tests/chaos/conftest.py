"""Projects whose model is a stub server: a run starts without torch, everything else is real."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.stage_check import served, two_steps
from tests.chaos.stub_server import StubServer
from tests.pipeline.project import SMALL, Project, texts
from tests.postgres import TestServer, database_text

Figures = Callable[[str], None]
MakeProject = Callable[[str, StubServer, dict[str, int]], Project]

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Takes a line with what was measured; all of them are shown when pytest ends."""
    lines = request.config.stash.setdefault(_FIGURES, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("chaos")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as made:
        yield made


@pytest.fixture
def make_project(
    tmp_path_factory: pytest.TempPathFactory, weights_cache: Path
) -> Iterator[MakeProject]:
    """Database URL, server, stage sizes -> a project of two steps with as many subjects as fit."""
    made: list[Project] = []

    def make(url: str, server: StubServer, stages: dict[str, int]) -> Project:
        project = Project(tmp_path_factory.mktemp("chaos"), url, weights_cache, stages=stages)
        made.append(project)
        project.configure(models={SMALL: served(server)})
        project.write_subjects(texts(sum(stages.values())))
        project.write_workflow(two_steps())
        return project

    yield make
    for project in made:
        project.engine.dispose()


@pytest.fixture
def database(postgres_server: TestServer) -> Iterator[str]:
    """A database that holds all tables, as a URL."""
    url = postgres_server.ready()
    yield database_text(url)
    postgres_server.drop(url)
