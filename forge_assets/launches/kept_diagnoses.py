"""The store of kept diagnoses, which nothing needs: without it more is read, and nothing is kept."""

from collections.abc import Callable

from resources.diagnosis_store import DiagnosisStore
from resources.errors import ForgeError


def open_diagnoses(tell: Callable[[str], None] = lambda sentence: None) -> DiagnosisStore | None:
    """None, and a sentence that says so, where no database can be reached."""
    from sqlalchemy.exc import SQLAlchemyError

    from resources.database import open_engine
    from resources.database_errors import database_errors, database_sentence

    errors: tuple[type[Exception], ...] = (*database_errors(), SQLAlchemyError)
    try:
        return DiagnosisStore(open_engine())
    except (ForgeError, OSError) as error:
        tell(f"no kept diagnoses: {error}")
    except errors as error:
        tell(f"no kept diagnoses: {database_sentence(error)}")
    return None
