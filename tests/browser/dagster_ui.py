"""The Dagster UI as a person uses it: pages that are opened, things that are clicked, texts that are read."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Locator, Page, expect, sync_playwright

LOCATION = "forge_assets.definitions"
WIDTH, HEIGHT = 1440, 900
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
SHOWN_MS = 30_000
"""How long a page may take to show something that is there."""
RUN_MS = 300_000
"""How long a short run may take, its time in the queue included."""


@contextmanager
def browser_page() -> Iterator[Page]:
    """A window of the system's own Chromium, without a screen."""
    chromium = found_chromium()
    if chromium is None:
        raise SystemExit("no Chromium is there; install it: apt-get install chromium")
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        context = browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT}, locale="en-US", timezone_id="UTC"
        )
        context.set_default_timeout(SHOWN_MS)
        expect.set_options(timeout=SHOWN_MS)
        yield context.new_page()
        browser.close()


def found_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


class DagsterUi:
    """Each method ends when what it asked for is on the page."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self._address = address

    # pages

    def open_group(self, group: str) -> None:
        self._open(f"/locations/{LOCATION}/asset-groups/{group}/lineage")
        expect(self._materialize_all()).to_be_enabled()

    def open_asset(self, asset: str, view: str, **more: str) -> None:
        """``view``: the tab, as in the page's address."""
        query = "&".join(f"{name}={value}" for name, value in {"view": view, **more}.items())
        self._open(f"/assets/{asset}?{query}")

    def open_backfill(self, backfill: str) -> None:
        self._open(f"/runs/b/{backfill}")

    def fold_navigation(self) -> None:
        self.page.get_by_text("Hide navigation").click()
        expect(self.page.get_by_text("Hide navigation")).to_be_hidden()

    def resize(self, width: int, height: int) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    # what is launched

    def materialize_group(self) -> None:
        """All of the open group, which has no partitions; until it has ended well."""
        self._materialize_all().click()
        self._follow("Launched run")
        self.await_run("Success")

    def choose_partitions(self, partitions: Sequence[str]) -> None:
        """Of the open group; the dialog stays open."""
        self._materialize_all().click()
        self.page.get_by_text("Select a partition").click()
        for partition in partitions:
            self.page.get_by_title(partition, exact=True).first.click()
        self.page.get_by_text("Launch runs to materialize").click()
        expect(self.page.get_by_placeholder("Filter partitions")).to_be_hidden()
        for partition in partitions:
            expect(self.page.get_by_title(partition, exact=True)).to_be_visible()

    def launch_backfill(self) -> str:
        """Of the chosen partitions; its id."""
        self.page.get_by_role("button", name="Launch backfill").click()
        self._follow("Created backfill")
        self.page.wait_for_url("**/runs/b/*")
        return self.page.url.rsplit("/", 1)[-1].partition("?")[0]

    def launch_run(self) -> None:
        """Of the one chosen partition; its page is opened."""
        self.page.get_by_role("button", name="Launch 1 run").click()
        self._follow("Launched run")

    def fill_launchpad(self, asset: str, setting: str) -> None:
        """A line more in the configuration of the asset's operation; the launchpad stays open."""
        self._open(f"/assets/{asset}")
        materialize = self.page.get_by_role("button", name="Materialize")
        materialize.locator("xpath=following::button[1]").click()
        self.page.get_by_text("Open launchpad").click()
        self.page.locator(".CodeMirror-line", has_text=f"{asset}:").wait_for()
        # Below the last of the defaults that Dagster fills in, and as deep.
        self.page.locator(".CodeMirror-line", has_text="direct: false").click()
        for key in ("End", "Enter"):
            self.page.keyboard.press(key)
        with self.page.expect_response(lambda answer: setting in (answer.request.post_data or "")):
            self.page.keyboard.type(setting)
        self.page.get_by_text("No errors").wait_for()
        expect(materialize.last).to_be_enabled()

    def launch_from_launchpad(self) -> None:
        self.page.get_by_role("button", name="Materialize").last.click()
        self.page.wait_for_url("**/runs/*")

    def await_backfill(self, minutes: float) -> str:
        """How the backfill of the open page ended."""
        ended = self._tag("Succeeded|Failed|Canceled")
        ended.wait_for(timeout=minutes * 60_000)
        return ended.inner_text()

    def await_run(self, status: str) -> None:
        """The open page is that of the run."""
        ended = self._tag("Success|Failure|Canceled")
        ended.wait_for(timeout=RUN_MS)
        expect(ended).to_have_text(status)

    # what is read

    def text(self) -> str:
        """Of the whole page."""
        return self.page.locator("body").inner_text()

    def find(self, pattern: str) -> Locator:
        """What a regular expression describes, somewhere on the page."""
        found = self.page.get_by_text(re.compile(pattern)).first
        found.wait_for()
        return found

    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog").last

    def colour(self, element: Locator) -> tuple[int, int, int]:
        """Red, green and blue of its letters."""
        found = element.evaluate("element => getComputedStyle(element).color")
        red, green, blue = map(int, re.findall(r"\d+", found)[:3])
        return red, green, blue

    def pictures(self) -> list[tuple[int, int]]:
        """Width and height of each picture that the browser could read."""
        images = self.page.locator("img[src^='data:image/png']")
        images.first.wait_for()
        sizes: Any = images.evaluate_all(
            "all => all.map(image => [image.naturalWidth, image.naturalHeight])"
        )
        return [(width, height) for width, height in sizes]

    # within

    def _open(self, path: str) -> None:
        self.page.goto(self._address + path)

    def _tag(self, texts: str) -> Locator:
        """A coloured label; elsewhere the same words are headings."""
        return self.page.locator(".BaseTag").get_by_text(re.compile(f"^({texts})$")).first

    def _materialize_all(self) -> Locator:
        return self.page.get_by_role("button", name="Materialize all")

    def _follow(self, note: str) -> None:
        """To what was launched, by the note that shows for some seconds."""
        self.page.get_by_text(note).wait_for()
        self.page.get_by_text("View", exact=True).last.click()
