from collections.abc import Iterator

import pytest
import sqlalchemy

from resources.database import create_engine
from resources.interaction_store import InteractionStore
from resources.store_schema import metadata


@pytest.fixture
def postgres_url(module_postgres_url: str) -> Iterator[str]:
    """The file's database, emptied after each test: quicker than a new one, and less to remove."""
    yield module_postgres_url
    engine = create_engine(module_postgres_url)
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sqlalchemy.delete(table))
    engine.dispose()


@pytest.fixture
def store(postgres_engine: sqlalchemy.Engine) -> InteractionStore:
    """A store on an empty database."""
    return InteractionStore(postgres_engine)
