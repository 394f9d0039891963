"""A fake Google for each test, and nothing of the developer's own account."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.cloud.credentials import Access, access
from tests.wire.clock import HandClock
from tests.wire.server import FakeGoogle


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, no project, and no question to the machine whether it is one of Google's."""
    for name in [
        name for name in os.environ if name.startswith(("GOOGLE_", "CLOUDSDK_", "WANDB_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def google(clock: HandClock) -> Iterator[FakeGoogle]:
    with FakeGoogle(clock) as made:
        yield made


@pytest.fixture
def demo(google: FakeGoogle) -> Access:
    """Access to the fake's project ``demo``."""
    return access("demo", google.environment)
