"""Runs that ended, read from Dagster's event log: those of a daemon and those of a terminal alike.

Dagster's own run status sensors pass over runs that no code location started, and take five a tick.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import dagster as dg
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

LOOK_BACK = timedelta(hours=1)
"""Of the very first tick: what ended before is told to nobody."""
OVERLAP = 1000
"""Numbers of events read again: an event with a lower number may have come a moment later."""
AT_MOST = 50
"""Runs of one kind looked at in a tick; the next one goes on."""

End = Literal["RUN_SUCCESS", "RUN_FAILURE"]


class Position(BaseModel):
    """``until``: the highest number of an event that was read; ``looked``: the last ones' numbers."""

    model_config = ConfigDict(frozen=True)

    until: int = 0
    looked: tuple[int, ...] = ()


class EndCursor(BaseModel):
    """``began``: the first tick. ``launches``: when the last launch ended that was looked at."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    began: AwareDatetime
    positions: Mapping[str, Position] = {}
    launches: AwareDatetime | None = None

    def text(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


def read_cursor(text: str | None, now: datetime) -> EndCursor:
    """A new one for a text that is none, or of another version."""
    try:
        return EndCursor.model_validate_json(text or "")
    except ValidationError:
        return EndCursor(began=now)


def ended_runs(
    instance: dg.DagsterInstance, kinds: Sequence[End], cursor: EndCursor
) -> tuple[Sequence[str], EndCursor]:
    """Ids of the runs that ended since, oldest first and each once, and the next cursor.

    Nothing is passed over: a run that ended while no daemon ran is read by the first tick after.
    """
    found: dict[str, None] = {}
    positions = dict(cursor.positions)
    for kind in kinds:
        before = positions.get(kind, Position())
        numbers, runs = _read(instance, kind, before, cursor.began - LOOK_BACK)
        found |= dict.fromkeys(runs)
        positions[kind] = _moved(before, numbers)
    return list(found), cursor.model_copy(update={"positions": positions})


def _read(
    instance: dg.DagsterInstance, kind: End, before: Position, since: datetime
) -> tuple[Sequence[int], Sequence[str]]:
    """Numbers and runs of the events that were not looked at."""
    known = set(before.looked)
    wanted = dg.RunStatusChangeRecordsFilter(
        _event_type(kind),
        after_timestamp=since.timestamp(),
        after_storage_id=max(0, before.until - OVERLAP) or None,
    )
    # As many more as may be known already, or these would fill the page.
    limit = AT_MOST + len(known)
    page = instance.fetch_run_status_changes(wanted, limit, ascending=True)
    new = [record for record in page.records if record.storage_id not in known][:AT_MOST]
    return [record.storage_id for record in new], [record.run_id for record in new]


def _event_type(
    kind: End,
) -> Literal[dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE]:
    if kind == "RUN_SUCCESS":
        return dg.DagsterEventType.RUN_SUCCESS
    return dg.DagsterEventType.RUN_FAILURE


def _moved(before: Position, numbers: Sequence[int]) -> Position:
    until = max([before.until, *numbers])
    looked = sorted(number for number in (*before.looked, *numbers) if number > until - OVERLAP)
    return Position(until=until, looked=tuple(looked))
