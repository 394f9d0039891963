"""What the UI shows of this project, done by hand in a real Chromium, checked, and kept as pictures.

``python -m tests.browser.screenshots``, which is ``make screenshots``: `make dev` on a store of its own,
three stages backfilled by clicking, a check that fails, a plot, a launch against the fakes of the wire.
``--small`` takes a few subjects a stage: five minutes instead of a quarter of an hour.
"""

import argparse
import io
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Locator, expect

from resources.postgres_instance import locate
from tests.browser.dagster_ui import HEIGHT, SHOWN_MS, WIDTH, DagsterUi, browser_page
from tests.browser.demo_project import JOB, SMALLER, STAGES, STRICT, WORKFLOW, write_project
from tests.browser.dev_server import ROOT, dev_server
from tests.postgres import remove_instance
from tests.wire.demo_cloud import world

IMAGES = ROOT / "docs/images"
LAST_SEEN = Path(tempfile.gettempdir()) / "forge-ui-failed.png"
MOST_BYTES = 250_000
_COLOURS = 256
_GRAPH_WIDTH, _GRAPH_HEIGHT = 1900, 720
_PLOTS_HEIGHT = 1240
_BACKFILL_MINUTES = 40
_SENSOR_MS = 120_000
_STEPS = ("gate", "summarize", "classify", "grade", "rewrite", "results")


def main() -> int:
    parser = argparse.ArgumentParser(description="Pictures of the Dagster UI for docs/images.")
    parser.add_argument("--small", action="store_true", help="a few subjects in each stage")
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder of the pictures")
    chosen = parser.parse_args()
    # Also where both are ignored by whatever started this, which the server would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    begun = time.monotonic()
    with served(small=chosen.small) as address, browser_page() as page:
        story = Story(DagsterUi(page, address), chosen.to)
        try:
            story.tell()
        except Exception:
            page.screenshot(path=LAST_SEEN)
            print(f"{LAST_SEEN} is what was there at the end", file=sys.stderr)
            raise
    print(f"{len(story.kept)} pictures in {time.monotonic() - begun:.0f} s")
    return 0


@contextmanager
def served(small: bool) -> Iterator[str]:
    """The address of `make dev` on a project with an empty store, beside the fakes of Google and W&B."""
    with world() as (_google, _wandb, environment):
        folder = Path(environment["FORGE_CONFIG"]).parent
        config = write_project(folder / "project", SMALLER if small else STAGES, per_minute=10)
        cache = {name: value for name, value in os.environ.items() if name == "FORGE_CACHE"}
        own = {**environment, **cache, "FORGE_CONFIG": str(config)}
        try:
            with dev_server(own, folder / "dev.log") as address:
                yield address
        finally:
            remove_instance(locate(ROOT, Path(environment["XDG_DATA_HOME"]) / "forge-assets"))


class Story:
    """Each part asserts what it shows before the picture is taken."""

    def __init__(self, ui: DagsterUi, folder: Path) -> None:
        self._ui = ui
        self._folder = folder
        self.kept: list[Path] = []

    def tell(self) -> None:
        self.inputs()
        self.backfill()
        self.checks_by_partition()
        self.plots()
        self.failed_check()
        self.launch()
        self.graph()

    def inputs(self) -> None:
        self._ui.open_group("inputs")
        self._ui.materialize_group()

    def backfill(self) -> None:
        ui = self._ui
        ui.open_group(WORKFLOW)
        ui.choose_partitions(list(STAGES))
        assert "3 partitions" in ui.text()
        self._keep("backfill-launch")
        backfill = ui.launch_backfill()
        assert ui.await_backfill(_BACKFILL_MINUTES) == "Succeeded", ui.text()
        # Anew, without the note that it was launched.
        ui.open_backfill(backfill)
        for step in _STEPS:
            row = ui.page.locator("tr, [class*=row]", has_text=f"{WORKFLOW} / {step}").last
            expect(row).to_contain_text("100% completed")
        self._keep("backfill")

    def checks_by_partition(self) -> None:
        ui = self._ui
        ui.open_asset(f"{WORKFLOW}/results", "checks", checkDetail="rejection_rate")
        ui.find("^Latest execution$")
        ui.page.get_by_text("Partitions", exact=True).last.click()
        ui.find(r"^Passed \(3\)$")
        ui.find(r"^Failed \(0\)$")
        ui.page.get_by_title("full-500", exact=True).click()
        numbers = ui.find(r"^\d+\.\d % \(\d+ of \d+\), limit 15 %$").inner_text()
        print(f"full-500: rejection_rate {numbers}")
        self._keep("checks-by-partition")

    def plots(self) -> None:
        ui = self._ui
        ui.open_asset(f"{WORKFLOW}/results", "partitions", partition="full-500")
        ui.find(r"^interactions a minute$")
        ui.resize(WIDTH, _PLOTS_HEIGHT)
        ui.page.get_by_text("[Show Markdown]").first.click()
        sizes = ui.pictures()
        assert sizes == [(900, 450)] * 6, sizes
        for title in ("Rates by step", "Throughput", "Memory", "Latency", "Batch sizes"):
            expect(ui.dialog()).to_contain_text(title)
        self._keep("plots", ui.dialog())
        ui.resize(WIDTH, HEIGHT)

    def failed_check(self) -> None:
        ui = self._ui
        ui.open_group(STRICT)
        ui.choose_partitions(["canary-10"])
        ui.launch_run()
        ui.await_run("Failure")
        ui.open_asset(f"{STRICT}/results", "checks", checkDetail="rejection_rate")
        numbers = ui.find(r"^\d+\.\d % \(\d+ of \d+\), limit 15 %$").inner_text()
        share = float(numbers.split(" %")[0])
        assert share >= 15, numbers
        red, green, blue = ui.colour(ui.page.get_by_text("Failed", exact=True).last)
        assert red > 2 * max(green, blue), f"not red: {(red, green, blue)}"
        print(f"{STRICT}: rejection_rate {numbers}")
        self._keep("failed-check")

    def launch(self) -> None:
        ui = self._ui
        ui.fill_launchpad("launches", f"job: {JOB}")
        self._keep("launchpad")
        ui.launch_from_launchpad()
        ui.await_run("Success")
        deadline = time.monotonic() + _SENSOR_MS / 1000
        while True:
            ui.open_asset("launches", "events")
            ui.find(r"/customJobs/\d+$")
            if "Observed" in ui.text():
                break
            assert time.monotonic() < deadline, "no sensor has told what became of the launch"
            ui.page.wait_for_timeout(2000)
        ui.find("^running$")
        ui.find(f"^{JOB}$")
        self._keep("launch")

    def graph(self) -> None:
        ui = self._ui
        ui.resize(_GRAPH_WIDTH, _GRAPH_HEIGHT)
        ui.open_group(WORKFLOW)
        ui.fold_navigation()
        ui.open_group(WORKFLOW)
        ui.find(r"^5 / 5 Passed$")
        for name in ("subjects", "model_weights", *_STEPS):
            assert re.search(rf"^{name}$", ui.text(), re.M), f"{name} is not in the graph"
        self._keep("asset-graph")

    def _keep(self, name: str, part: Locator | None = None) -> None:
        """Of the window, or of what is seen of a part, with a palette: a third of the bytes."""
        self._ui.page.mouse.move(0, 0)
        self._ui.page.wait_for_load_state("networkidle", timeout=SHOWN_MS)
        box = part.bounding_box() if part else None
        size = self._ui.page.viewport_size
        assert size is not None
        clip: FloatRect | None = None
        if box:
            top, height = max(0.0, box["y"]), size["height"] - max(0.0, box["y"])
            clip = {**box, "y": top, "height": min(box["height"], height)}
        shot = self._ui.page.screenshot(animations="disabled", clip=clip)
        picture = Image.open(io.BytesIO(shot)).convert("RGB")
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.png"
        picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        assert path.stat().st_size <= MOST_BYTES, f"{path.name}: {path.stat().st_size} bytes"
        print(
            f"{path.name}: {picture.width}x{picture.height}, {path.stat().st_size} bytes",
            flush=True,
        )
        self.kept.append(path)


if __name__ == "__main__":
    sys.exit(main())
