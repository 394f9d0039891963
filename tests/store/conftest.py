import pytest
import sqlalchemy

from resources.interaction_store import InteractionStore


@pytest.fixture
def store(postgres_engine: sqlalchemy.Engine) -> InteractionStore:
    """A store on a fresh database."""
    return InteractionStore(postgres_engine)
