"""The monitor's tables on a terminal, their durations going on between two refreshes."""

from collections.abc import Callable, Iterable
from datetime import datetime
from threading import Event, Thread

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from forge_assets.cli.monitor_rich import rendered
from forge_assets.launches.monitor.refresh import refreshes
from forge_assets.launches.monitor.table import Snapshot
from resources.cloud.regions import utc_now


class View:
    """The newest snapshot. One thread follows them while another draws."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self.ended = Event()
        self.fault: BaseException | None = None
        self._clock = clock
        self._newest: Snapshot | None = None

    def follow(self, snapshots: Iterable[Snapshot]) -> None:
        """Until they end; what they raise is kept for whoever waits for ``ended``."""
        try:
            for snapshot in snapshots:
                self._newest = snapshot
        except BaseException as error:
            self.fault = error
        finally:
            self.ended.set()

    def drawn(self) -> RenderableType:
        if self._newest is None:
            return Text("reading...")
        return rendered(self._newest, self._clock(), with_logs=False)


def watch_live(read: Callable[[], Snapshot], stop: Event, console: Console | None = None) -> None:
    """Until ``stop`` or Ctrl+C. Raises what a refresh raised."""
    view = View()
    # A refresh that waits for a region does not keep the program from ending.
    thread = Thread(target=view.follow, args=(refreshes(read, stop.wait),), daemon=True)
    with Live(get_renderable=view.drawn, refresh_per_second=1, console=console or Console()):
        thread.start()
        view.ended.wait()
    if view.fault is not None:
        raise view.fault
