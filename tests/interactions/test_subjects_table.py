from collections.abc import Mapping
from typing import Any

import pytest
from markdown_it import MarkdownIt

from forge_assets.interactions.subjects_table import subjects_markdown, trace_command

PARSER = MarkdownIt("commonmark").enable("table")


def row(key: str, number: int = 0, **steps: str) -> Mapping[str, Any]:
    """A subject whose steps ended so."""
    return {
        "key": key,
        "ordinal": number,
        "fields": {},
        "steps": {
            step: {
                "interaction_id": 100 * number + place,
                "status": status,
                "error_class": "contract" if status in ("rejected", "failed") else None,
            }
            for place, (step, status) in enumerate(steps.items())
        },
    }


def cells(markdown: str) -> list[list[str]]:
    """The text of the table's cells as a reader sees it."""
    rows: list[list[str]] = []
    tokens = PARSER.parse(markdown)
    for place, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            children = tokens[place + 1].children or []
            assert {child.type for child in children} <= {"text", "text_special"}
            rows[-1].append("".join(child.content for child in children))
    return rows[1:]


def test_the_first_and_all_that_ended_badly() -> None:
    rows = [row(f"s{n}", n, draft="completed", polish="completed") for n in range(200)]
    for n in (0, 30, 150):
        rows[n] = row(f"s{n}", n, draft="rejected", polish="skipped")
    rows[160] = row("s160", 160, draft="completed", polish="failed")
    found = subjects_markdown(rows)
    assert found.startswith(
        "23 of 200 subjects: the first 20, and 4 of 4 with a rejected or failed"
    )
    table = cells(found)
    assert [line[0] for line in table] == [*(f"s{n}" for n in range(20)), "s30", "s150", "s160"]
    assert table[0] == ["s0", "rejected", "draft (contract)", "forge trace s0"]
    assert table[1] == ["s1", "completed", "", "forge trace s1"]
    assert table[-1][1:3] == ["failed", "polish (contract)"]


def test_at_most_fifty_of_them() -> None:
    found = subjects_markdown([row(f"s{n}", n, draft="failed") for n in range(5000)])
    assert len(cells(found)) == 50
    assert "50 of 5000 with a rejected or failed step" in found
    assert len(found) < 10_000


def test_the_worst_step_is_the_subjects_outcome() -> None:
    rows = [
        row("a", 0, one="skipped", two="completed"),
        row("b", 1, one="completed", two="pending"),
        row("c", 2, one="failed", two="rejected", three="failed"),
        row("d", 3, one="skipped"),
    ]
    assert [line[1:3] for line in cells(subjects_markdown(rows))] == [
        ["completed", ""],
        ["open", "two"],
        ["failed", "one (contract), three (contract)"],
        ["skipped", ""],
    ]


HOSTILE = ["a|b", "`x`", "a\\|b", "__init__", "<b>", "[l](http://x)", "it's", "# h", "*x*", "a & b"]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_key_reads_as_it_is(key: str) -> None:
    (line,) = cells(subjects_markdown([row(key, 1, draft="completed")]))
    assert line[0] == key
    assert line[3] == trace_command(row(key, 1, draft="completed"))


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("s1", "forge trace s1"),
        ("two words", "forge trace 'two words'"),
        ("it's", "forge trace 'it'\"'\"'s'"),
        ("-x", "forge trace -- -x"),
        ("k" * 200, "forge trace 701"),
        ("line\nfeed", "forge trace 701"),
        ("\x1b[31m", "forge trace 701"),
        ("\u202e", "forge trace 701"),
    ],
)
def test_the_command_can_be_typed(key: str, command: str) -> None:
    """Of one that cannot, the interaction that ended worst is named by its number."""
    assert trace_command(row(key, 7, draft="completed", polish="rejected")) == command


def test_no_subjects() -> None:
    assert subjects_markdown([]) == "The stage holds no subjects yet."
