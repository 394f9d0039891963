import json
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt

from forge_assets.interactions.trace import interaction_markdown, subject_markdown, trace_json
from resources.database import create_engine
from resources.interaction_store import InteractionStore
from resources.plain_text import visible
from resources.store_types import SubjectTrace
from resources.subject_record import subject_record
from tests.interactions.worked_stage import (
    CANARY,
    DATASET,
    HOSTILE,
    KEYS,
    STEPS,
    nothing_moves,
    work_stage,
)

PARSER = MarkdownIt("commonmark")


@pytest.fixture(scope="module")
def store(module_postgres_url: str) -> Iterator[InteractionStore]:
    engine = create_engine(module_postgres_url)
    store = InteractionStore(engine)
    work_stage(store)
    # The third subject's text changes: its rows are superseded and new ones are pending.
    texts = {key: f"{key}\n{HOSTILE}" for key in KEYS} | {KEYS[2]: "new"}
    records = [subject_record({"key": key, "text": texts[key]}, None, 10**6) for key in KEYS]
    store.ingest(DATASET, records)
    store.plan_stage(CANARY, STEPS, nothing_moves)
    yield store
    engine.dispose()


def trace_of(store: InteractionStore, key: str) -> SubjectTrace:
    trace = store.trace(DATASET, None, key)
    assert trace is not None
    return trace


def blocks(markdown: str) -> list[str]:
    """The contents of the fences, as a Markdown reader sees them."""
    return [
        token.content.removesuffix("\n")
        for token in PARSER.parse(markdown)
        if token.type == "fence"
    ]


def headings(markdown: str) -> list[str]:
    tokens = PARSER.parse(markdown)
    return [
        tokens[place + 1].content
        for place, token in enumerate(tokens)
        if token.type == "heading_open"
    ]


def test_a_subject_with_hostile_texts(store: InteractionStore) -> None:
    trace = trace_of(store, KEYS[1])
    markdown = subject_markdown(trace)
    found = blocks(markdown)
    assert json.loads(found[0]) == {"key": KEYS[1], "text": f"{KEYS[1]}\n{HOSTILE}"}
    assert found.count(visible(f"Do {HOSTILE}")) == 2
    assert found.count(visible(f"out of {KEYS[1]}\n{HOSTILE}")) == 2
    assert "Be `brief`." in found
    assert "shorter than min_chars" in found
    assert '{\n  "clarity": 3\n}' in found
    summarize, grade = trace.interactions
    assert headings(markdown) == [
        "Subject ``b `tick` | pipe``",
        "Workflow review",
        f"summarize: rejected (interaction {summarize.id})",
        f"grade: completed (interaction {grade.id})",
    ]
    assert "\x1b" not in markdown
    assert "\u202e" not in markdown


def test_superseded_versions_and_every_attempt(store: InteractionStore) -> None:
    trace = trace_of(store, KEYS[2])
    markdown = subject_markdown(trace)
    titles = headings(markdown)
    assert [title.split(" (")[0] for title in titles[1:]] == [
        "Workflow review",
        "summarize: pending",
        "grade: pending",
        "Superseded in review",
        "summarize: rejected",
        "grade: completed",
    ]
    old = next(row for row in trace.interactions if row.superseded_at and row.step == "grade")
    alone = interaction_markdown(old)
    assert "attempts: 2" in alone
    found = blocks(alone)
    assert "first try" in found
    assert "'clarity' is missing" in found
    assert visible(f"out of c\n{HOSTILE}") in found
    kinds = [line.split()[3].rstrip(",") for line in alone.splitlines() if line.startswith("- 20")]
    assert kinds == ["claimed", "retried", "claimed", "completed", "superseded"]
    fields = [json.loads(block) for block in blocks(markdown)[:2]]
    assert [each["text"] for each in fields] == ["new", f"c\n{HOSTILE}"]


def test_a_failure_shows_its_message_in_full(store: InteractionStore) -> None:
    failed = next(row for row in trace_of(store, KEYS[0]).interactions if row.step == "grade")
    found = blocks(interaction_markdown(failed))
    assert found.count(visible(f"out of memory\n{HOSTILE}")) == 1


def test_a_subject_of_no_planned_stage(store: InteractionStore) -> None:
    assert "No interaction yet" in subject_markdown(trace_of(store, KEYS[3]))


def test_json_keeps_every_text_as_it_is(store: InteractionStore) -> None:
    trace = trace_of(store, KEYS[1])
    data = json.loads(json.dumps(trace_json(trace)))
    assert data["key"] == KEYS[1]
    assert data["interactions"][0]["output"] == f"out of {KEYS[1]}\n{HOSTILE}"
    assert data["interactions"][0]["status"] == "rejected"
    one = trace_json(trace.interactions[1])
    assert one["parsed"] == {"clarity": 3}
    assert one["events"][0]["kind"] == "claimed"
