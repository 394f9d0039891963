"""Tracebacks are whole again, however the lines of several writers came."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge_assets.launches.catalogue import classify
from forge_assets.launches.log_blocks import blocks
from resources.cloud.log_entry import LogEntry, text_of, writer_of
from tests.launches.test_catalogue import CHAINED

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAIN = """Traceback (most recent call last):
  File "/app/train.py", line 9, in <module>
    main()
  File "/app/train.py", line 5, in main
    raise ValueError("no rows")
ValueError: no rows"""
NOISE = ["step 1 loss 0.503", "step 2 loss 0.429", "saving checkpoint"]


def entries(writer: str, lines: list[str], first: int = 0) -> list[LogEntry]:
    """All in one millisecond, as a replica writes them: only the insert id orders them."""
    return [LogEntry(NOON, f"{first + n:06d}", (writer,), line) for n, line in enumerate(lines)]


def written(writer: str, text: str) -> list[LogEntry]:
    return entries(writer, [NOISE[0], *text.splitlines(), *NOISE[1:]])


@given(st.randoms(use_true_random=False))
def test_two_workers_interleaved(random: object) -> None:
    mixed = written("a", PLAIN) + written("b", CHAINED)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    found = [block.text for block in blocks(mixed)]
    assert sorted(found) == sorted([PLAIN, CHAINED, *NOISE * 2])


def test_the_cause_is_that_of_the_whole_block() -> None:
    causes = [cause for block in blocks(written("a", CHAINED)) if (cause := classify(block.text))]
    assert [cause.line for cause in causes] == ["app.data.BadFileError: rows.jsonl is empty"]


def test_what_follows_an_exception_is_not_of_it() -> None:
    lines = [*PLAIN.splitlines(), "", "retrying in 3 s", *PLAIN.splitlines()]
    found = [block.text for block in blocks(entries("a", lines))]
    assert found == [f"{PLAIN}\n", "retrying in 3 s", PLAIN]


def test_blocks_come_by_the_time_of_their_first_line() -> None:
    late = LogEntry(NOON + timedelta(seconds=1), "1", ("a",), "late")
    early = LogEntry(NOON, "2", ("b",), "early")
    assert [block.text for block in blocks([late, early])] == ["early", "late"]


def test_a_traceback_that_was_cut_is_kept() -> None:
    cut = PLAIN.splitlines()[:3]
    assert [block.text for block in blocks(entries("a", cut))] == ["\n".join(cut)]


@pytest.mark.parametrize(
    ("payloads", "text"),
    [
        (("plain", None, None), "plain"),
        ((None, {"message": "of Vertex", "levelname": "ERROR"}, None), "of Vertex"),
        ((None, {"b": 1, "a": 2}, None), '{"a": 2, "b": 1}'),
        ((None, None, {"status": {"message": "no such secret"}}), "no such secret"),
        ((None, None, {"methodName": "jobs.run"}), "jobs.run"),
        ((None, None, None), ""),
    ],
)
def test_every_payload_has_a_text(payloads: tuple[object, object, object], text: str) -> None:
    assert text_of(*payloads) == text  # type: ignore[arg-type]


def test_two_tasks_of_one_log_are_two_writers() -> None:
    resource = {"job_name": "runner", "location": "us-east1"}
    first = writer_of("stdout", resource, {"task_index": "0"})
    assert first != writer_of("stdout", resource, {"task_index": "1"})
    assert first == writer_of("stdout", dict(reversed(resource.items())), {"task_index": "0"})
