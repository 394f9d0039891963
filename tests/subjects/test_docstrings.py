import hashlib
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from resources.docstrings import read_docstrings
from resources.errors import ConfigurationError
from resources.subject_record import SubjectRecord
from resources.subject_sources import PythonDocstringsSource, read_records

_PRINT_HASH = """
import hashlib
from resources.docstrings import read_docstrings
text = "".join(f"{r.key} {r.content_hash}\\n" for r in read_docstrings())
print(hashlib.sha256(text.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def records() -> list[SubjectRecord]:
    source = PythonDocstringsSource(source="python_docstrings")
    found = list(read_records(source))
    assert all(isinstance(record, SubjectRecord) for record in found)
    return [record for record in found if isinstance(record, SubjectRecord)]


def test_enough_for_the_named_stages_and_a_batch(records: list[SubjectRecord]) -> None:
    assert len(records) >= 1060
    assert len({record.key for record in records}) == len(records)
    assert len({record.fields["text"] for record in records}) == len(records)


def test_each_record_is_whole_and_short(records: list[SubjectRecord]) -> None:
    for record in records:
        assert list(record.fields) == ["name", "module", "kind", "signature", "text"]
        assert record.key == f"{record.fields['module']}.{record.fields['name']}"
        assert 80 <= len(record.fields["text"]) <= 600
        assert len(record.fields["signature"]) <= 120
        assert not any(part.startswith("_") for part in record.fields["name"].split("."))
    by_key = {record.key: record.fields for record in records}
    assert by_key["textwrap.indent"]["kind"] == "function"
    assert by_key["textwrap.indent"]["signature"] == "indent(text, prefix, predicate=None)"
    assert by_key["textwrap.indent"]["text"].startswith("Adds 'prefix' to the beginning")
    assert by_key["queue.Queue.join"]["kind"] == "method"
    assert by_key["threading.Barrier"]["kind"] == "class"


def test_the_first_are_a_fair_mix(records: list[SubjectRecord]) -> None:
    for size, modules in ((10, 8), (60, 25), (560, 60)):
        first = Counter(record.fields["module"] for record in records[:size])
        assert len(first) >= modules
        assert max(first.values()) <= max(3, size // 10)
    kinds = Counter(record.fields["kind"] for record in records[:60])
    assert set(kinds) == {"function", "method", "class"}


def test_same_in_every_process(records: list[SubjectRecord]) -> None:
    text = "".join(f"{record.key} {record.content_hash}\n" for record in records)
    here = hashlib.sha256(text.encode()).hexdigest()
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "LC_ALL": "C"}
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _PRINT_HASH],
            env=environment | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == here


def test_order_is_by_name_alone(records: list[SubjectRecord]) -> None:
    """The first of these keep their order in every Python: a change to one moves no other."""
    pinned = [
        "threading.enumerate",
        "logging.shutdown",
        "asyncio.locks.Event.wait",
        "smtplib.SMTP.ehlo",
        "unittest.case.TestCase.addCleanup",
    ]
    assert [record.key for record in records if record.key in pinned] == pinned
    assert {record.key for record in records[:12]} >= set(pinned)


def test_python_without_its_sources_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(ConfigurationError, match=r"subjects\.source: .*abc\.py; use a Python"):
        list(read_docstrings())
