"""One watch over everything that hostile input makes this process do; projects as the pipeline's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.guard import Guard
from tests.pipeline.conftest import _make_project, module_project, new_database, project

__all__ = ["_make_project", "guard", "module_project", "new_database", "project"]


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    watch = Guard(tmp_path)
    yield watch
    watch.check()
