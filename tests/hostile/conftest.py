"""One watch over everything that hostile input makes this process do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.guard import Guard


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    watch = Guard(tmp_path)
    yield watch
    watch.check()
