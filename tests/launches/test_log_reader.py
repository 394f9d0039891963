"""Reads of Cloud Logging count against one budget, page by page, and never raise for the cloud."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from forge_assets.launches.log_causes import LogText
from forge_assets.launches.log_reader import BUDGET, LogRead, LogReader
from resources.cloud.connections import LOGGING
from resources.cloud.logs import of_execution
from resources.database import create_engine
from resources.diagnosis_store import DiagnosisStore
from tests.launches.diagnosing import TRACEBACK, clouds_of
from tests.launches.test_log_blocks import entries as written_by
from tests.wire import faults
from tests.wire.clock import HandClock
from tests.wire.server import FakeGoogle

HOUR = timedelta(hours=1)


@pytest.fixture
def diagnoses(postgres_engine: sa.Engine) -> DiagnosisStore:
    return DiagnosisStore(postgres_engine)


def read(
    google: FakeGoogle, clock: HandClock, diagnoses: DiagnosisStore | None, at_most: int = 5_000
) -> LogRead:
    reader = LogReader(clouds_of(google).logs, diagnoses)
    return reader.read(of_execution("r-1"), clock.now - HOUR, clock.now + HOUR, at_most, 5)


def write(google: FakeGoogle, clock: HandClock, count: int, apart: float = 1.0) -> None:
    for number in range(count):
        at = clock.now + number * apart * timedelta(milliseconds=1)
        google.logs.add_text(at, f"line {number // 2}", "r-1")


def test_every_line_is_kept_over_pages_each_counted(
    google: FakeGoogle, clock: HandClock, diagnoses: DiagnosisStore
) -> None:
    write(google, clock, 2_500)
    found = read(google, clock, diagnoses)
    # Every text is there twice.
    assert [entry.text for entry in found.entries] == [f"line {n // 2}" for n in range(2_500)]
    assert (found.note, found.wait, found.is_cut) == ("", 0.0, False)
    taken = len(google.named("ListLogEntries"))
    assert taken == 3
    budget = (BUDGET, LOGGING.per_minute, LOGGING.burst)
    left = [diagnoses.take_read(*budget) for _ in range(LOGGING.burst - taken + 1)]
    assert [wait > 0 for wait in left] == [False] * (LOGGING.burst - taken) + [True]


def test_the_newest_are_read_and_the_rest_is_said(google: FakeGoogle, clock: HandClock) -> None:
    write(google, clock, 1_500)
    found = read(google, clock, None, at_most=1_200)
    assert [entry.text for entry in found.entries] == [f"line {n // 2}" for n in range(300, 1_500)]
    assert (found.note, found.is_cut) == ("only the newest 1200 lines", True)
    google.faults.add(faults.unavailable(), "ListLogEntries")
    assert read(google, clock, None).note.startswith("not read: The service is currently")


def test_a_page_of_one_moment_ends_the_read(google: FakeGoogle, clock: HandClock) -> None:
    write(google, clock, 1_500, apart=0.0)
    found = read(google, clock, None)
    assert (len(found.entries), found.is_cut) == (1_000, True)


def test_half_a_read_keeps_what_came(
    google: FakeGoogle, clock: HandClock, diagnoses: DiagnosisStore
) -> None:
    write(google, clock, 1_500)
    for _ in range(19):
        diagnoses.take_read(BUDGET, LOGGING.per_minute, LOGGING.burst)
    found = read(google, clock, diagnoses)
    assert len(found.entries) == 1_000
    assert found.note.startswith("only the newest 1000 lines: throttled")
    assert 0 < found.wait <= 3


def test_without_a_database_the_clients_own_limit_holds(
    google: FakeGoogle, clock: HandClock
) -> None:
    write(google, clock, 1)
    away = create_engine("postgresql+psycopg2://nobody@127.0.0.1:9/none")
    for diagnoses in (None, DiagnosisStore(away)):
        reader = LogReader(clouds_of(google).logs, diagnoses)
        notes = [
            reader.read(of_execution("r-1"), clock.now, clock.now + HOUR, 10, 5).note
            for _ in range(21)
        ]
        assert notes[:20] == [""] * 20
        assert notes[20].startswith("not read: Cloud Logging is not asked again")


def test_lines_around_a_block_and_no_traceback_is_cut() -> None:
    before, after = ([f"{word} {n}" for n in range(20)] for word in ("before", "after"))
    trace = TRACEBACK.splitlines()
    text = LogText(written_by("a", [*before, *trace, *after, *trace, "end"]))
    first = text.causes[0].block
    around = text.around(first, 18)
    assert around == (*before[-8:], *trace, *after[:4])
    assert text.around(first, 2) == tuple(trace)
    # The second traceback does not fit.
    assert text.around(first, 49) == (*before, *trace, *after)
    assert text.around(None, 7) == (*trace, "end")
    assert text.around(None, 6) == ("end",)
    assert text.around(None, 1_000) == (*before, *trace, *after, *trace, "end")
    assert LogText([]).around(None, 10) == ()
