"""The runner's JSON lines: one a line, short enough for Cloud Logging, never with a ``message``."""

import json

import pytest

from deploy.runner.events import MOST_BYTES, Events, line


@pytest.mark.parametrize("character", ["x", "ö", "😀", '"', "\\", "\x1b", "\x00", "\n", "\ud800"])
def test_a_line_is_short_enough_whatever_is_in_it(character: str) -> None:
    texts = [character * 70_000] * 500
    made = line({"event": "fatal", "matches": texts, "tail": texts, "line": character * 300_000})
    assert len(made.encode()) < MOST_BYTES
    assert made.count("\n") == 1
    read = json.loads(made)
    assert read["forge_runner"] == 1
    assert len(read["tail"]) == len(read["matches"]) == 100


def test_a_short_text_is_whole() -> None:
    made = json.loads(line({"line": "Ünïcode\tand\nlines", "tail": ["a", "\x1b[31mred\x1b[0m"]}))
    assert made["line"] == "Ünïcode\tand\nlines"
    assert made["tail"] == ["a", "red"]


def test_each_event_has_the_counters_of_its_time() -> None:
    written: list[str] = []
    counters = {"runs": 0}
    events = Events(written.append, lambda: counters)
    events.tell("started", pid=7)
    counters["runs"] = 2
    events.tell("fatal", severity="ERROR")
    first, last = (json.loads(told) for told in written)
    assert first == {"forge_runner": 1, "event": "started", "severity": "INFO", "runs": 0, "pid": 7}
    assert (last["runs"], last["severity"]) == (2, "ERROR")
    assert "message" not in first | last
