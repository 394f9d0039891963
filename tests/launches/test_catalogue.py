"""The catalogue of failures: every sample is found by its own entry only, harmless lines by none."""

from pathlib import Path

import pytest

from forge_assets.launches.catalogue import Entry, classify, entries

HARMLESS = Path(__file__).with_name("harmless.txt").read_text(encoding="utf-8").splitlines()

ANY_EXCEPTION = "D01"
"""Finds the last line of every traceback, also of those that an entry before it knows better."""

CHAINED = """Traceback (most recent call last):
  File "/app/data.py", line 7, in load
    return json.loads(text)
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/train.py", line 31, in main
    rows = load(path)
app.data.BadFileError: rows.jsonl is empty"""


def test_there_are_fifty_three_with_ids_of_their_own() -> None:
    assert len(entries()) == len({entry.id for entry in entries()}) == 53


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.id)
def test_a_sample_is_found_by_its_own_entry_only(entry: Entry) -> None:
    cause = classify(entry.sample)
    assert cause is not None
    assert (cause.entry.id, cause.line) == (entry.id, entry.sample.removeprefix("wandb: WARNING "))
    found = {other.id for other in entries() if other.regex.search(entry.sample)}
    assert found - {ANY_EXCEPTION} == {entry.id} - {ANY_EXCEPTION}


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.id)
def test_an_advice_is_one_sentence(entry: Entry) -> None:
    assert entry.advice.endswith(".")
    assert ". " not in entry.advice
    assert len(entry.advice) <= 120


def test_two_hundred_harmless_lines_are_no_failure() -> None:
    assert len(set(HARMLESS)) == len(HARMLESS) >= 200
    found = {line: cause.entry.id for line in HARMLESS if (cause := classify(line))}
    assert found == {}
    assert classify("\n".join(HARMLESS)) is None


def test_the_last_cause_of_a_chained_traceback_wins() -> None:
    cause = classify(CHAINED)
    assert cause is not None
    assert (cause.entry.id, cause.line) == ("D01", "app.data.BadFileError: rows.jsonl is empty")


def test_what_the_agent_wraps_is_told_by_what_is_inside() -> None:
    inner = '400 Machine type "a3-highgpu-1g" is not supported.'
    for text in (f"wandb: ERROR {inner}", f"wandb: ERROR Failed to create Vertex job: {inner}"):
        cause = classify(text)
        assert cause is not None
        assert cause.entry.id == "V03"


def test_a_cause_is_told_before_what_reports_it() -> None:
    log = "\n".join(
        [
            "Traceback (most recent call last):",
            '  File "/app/train.py", line 9, in <module>',
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB.",
            "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error.",
        ]
    )
    cause = classify(log)
    assert cause is not None
    assert cause.entry.error_class == "oom_gpu"
    assert cause.line.startswith("torch.OutOfMemoryError")
