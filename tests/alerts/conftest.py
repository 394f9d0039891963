from collections.abc import Iterator

import pytest

from tests.alerts.webhook import Webhook


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as made:
        yield made
