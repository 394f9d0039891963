"""A failed check and a launch as a person sees them, where a Chromium and its driver are there."""

from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="pip install playwright")

from tests.browser.dagster_ui import DagsterUi, browser_page, found_chromium
from tests.browser.screenshots import Story, served

pytestmark = pytest.mark.skipif(found_chromium() is None, reason="no Chromium on this machine")


def test_a_failed_check_is_red_with_its_numbers_and_a_launch_is_told(
    tmp_path: Path, weights_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_CACHE", str(weights_cache))
    with served(small=True) as address, browser_page() as page:
        story = Story(DagsterUi(page, address), tmp_path)
        story.inputs()
        story.failed_check()
        story.launch()
    assert {path.stem for path in story.kept} == {"failed-check", "launchpad", "launch"}
