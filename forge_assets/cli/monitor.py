"""`forge monitor`: the tables of what runs in the clouds, once or again and again."""

import json
import sys
from collections.abc import Callable
from threading import Event

from forge_assets.cli.exit_codes import INTERRUPTED
from forge_assets.cli.monitor_text import snapshot_lines
from forge_assets.cli.open import out, tell
from forge_assets.cli.output import reader_left
from forge_assets.launches.monitor.table import Snapshot
from forge_assets.launches.monitor.tables import chosen
from resources.cloud.regions import utc_now

Read = Callable[[], Snapshot]


def show(tables: list[str], watch: bool, as_json: bool) -> int:
    """``tables``: none of them means all. ConfigurationError for an unknown one."""
    names = chosen(tables)
    from forge_assets.config import load_config
    from forge_assets.launches.clouds import open_clouds
    from forge_assets.launches.kept_diagnoses import open_diagnoses
    from forge_assets.launches.monitor.monitor import Monitor

    clouds = open_clouds(load_config().cloud)
    monitor = Monitor(clouds, open_diagnoses(tell))

    def read() -> Snapshot:
        return monitor.read(names)

    if not watch:
        return show_once(read, as_json)
    try:
        if as_json or not sys.stdout.isatty():
            return show_each(read, as_json, Event().wait)
        from forge_assets.cli.monitor_live import watch_live

        watch_live(read, Event())
    except KeyboardInterrupt:
        pass
    return INTERRUPTED


def show_once(read: Read, as_json: bool) -> int:
    snapshot = read()
    if as_json:
        out(json.dumps(snapshot.as_json(utc_now()), indent=2))
    elif sys.stdout.isatty():
        from rich.console import Console

        from forge_assets.cli.monitor_rich import rendered

        Console().print(rendered(snapshot, utc_now(), with_logs=True))
    else:
        _print(snapshot)
    return _told(snapshot)


def show_each(read: Read, as_json: bool, wait: Callable[[float], bool]) -> int:
    """One snapshot per refresh, as JSON on one line each, until nobody reads them any more."""
    from forge_assets.launches.monitor.refresh import refreshes

    code = 0
    for snapshot in refreshes(read, wait):
        if as_json:
            out(json.dumps(snapshot.as_json(utc_now())))
        else:
            _print(snapshot)
        code = _told(snapshot)
        if reader_left():
            break
    return code


def _print(snapshot: Snapshot) -> None:
    for line in snapshot_lines(snapshot, utc_now()):
        out(line)


def _told(snapshot: Snapshot) -> int:
    """1 when something was not read, with one line that says what."""
    if snapshot.complete:
        return 0
    tell(f"forge: {snapshot.unread_sentence()}")
    return 1
