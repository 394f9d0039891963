"""Answers of a model that wants out: every one is a row with a verdict, and harmless where it is shown."""

import json
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from markdown_it import MarkdownIt

from forge_assets.config import Thresholds
from forge_assets.interactions.attempt import conclude, prepare
from forge_assets.interactions.report import (
    read_stage_report,
    stage_report_json,
    stage_report_markdown,
)
from forge_assets.interactions.results import flat_row
from forge_assets.interactions.trace import interaction_markdown, subject_markdown, trace_json
from forge_assets.workflow.steps import GenerateParams, OutputContract, Step
from resources.gpu.engines.base import Completion, FinishReason, GenerationRequest
from resources.interaction import Claim, Result, Status, StepState, Transition
from resources.interaction_store import InteractionStore, PlannedStep, StageScope
from resources.machine_limits import Limits
from resources.subject_record import subject_record
from tests.hostile.guard import Guard
from tests.hostile.output_inputs import BY_HAND, outputs
from tests.hostile.payloads import PAYLOADS, assert_neutral

RUN = "run-1"
SHOWN = 60
"""Subjects whose trace is parsed as Markdown, beside the report that tells of all."""
TREE = {
    "type": "object",
    "properties": {"a": {"type": ["string", "integer", "object"]}},
    "required": ["a"],
}
CONTRACTS: dict[str, dict[str, Any]] = {
    "free": {"min_chars": 0},
    "short": {"max_chars": 20},
    "one": {"one_of": ["yes", "no"]},
    "tree": {"json_schema": TREE},
    "any": {"json_schema": {}},
    "word": {"pattern": r"\A[a-z ]+\Z"},
}
STEPS = [
    Step(
        name=name,
        model="small",
        prompt="Of {text}",
        generate=GenerateParams(),
        output=OutputContract(**contract),
    )
    for name, contract in CONTRACTS.items()
]
MARKDOWN = MarkdownIt("commonmark").enable("table")


def test_a_hostile_output_is_a_row_with_a_verdict(postgres_engine: sa.Engine, guard: Guard) -> None:
    store = InteractionStore(postgres_engine)
    answers = list(outputs())
    scope = StageScope("texts", "review", "canary", 0, len(answers))
    texts = [
        PAYLOADS[n % len(PAYLOADS)].encode(errors="replace").decode() for n in range(len(answers))
    ]
    records = [
        subject_record({"key": f"{n} {text[:100]}", "text": f"{text} x"}, "key", 10**6)
        for n, text in enumerate(text.replace("\0", "") for text in texts)
    ]
    store.ingest("texts", records)
    store.sync_stages("texts", [("canary", 0, len(answers))])
    by_name = {step.name: step for step in STEPS}
    planned = [PlannedStep(name, f"v-{name}", "small", root=True) for name in by_name]
    store.plan_stage(scope, planned, nothing_moves)
    store.register_run(RUN, scope, pid=1, host="here")
    rows = 0
    while claims := store.claim(
        scope, "small", run_id=RUN, limit=300, lease_seconds=600, ancestors_of={}
    ):
        results = []
        for claim in claims:
            with guard.one(f"{claim.step} {answers[claim.ordinal][:60]!r}"):
                results.append(answered(by_name[claim.step], claim, answers[claim.ordinal]))
        store.commit(RUN, results, nothing_moves)
        rows += len(results)
    assert rows == len(answers) * len(STEPS)
    each_row_has_a_class(postgres_engine)
    shown_without_harm(store, scope, [record.key for record in records])


def nothing_moves(states: Mapping[str, StepState]) -> Mapping[str, Transition]:
    return {}


def answered(step: Step, claim: Claim, text: str) -> Result:
    request = prepare(step, claim)
    if not isinstance(request, GenerationRequest):
        return request
    assert request.prompt == f"Of {claim.fields['text']}", "what was put in is never expanded"
    reason: FinishReason = "length" if claim.ordinal % 3 == 0 else "stop"
    completion = Completion(
        claim.interaction_id, text, reason, 1, 1, 0.1, provenance={"engine": text[:50]}
    )
    result = conclude(step, claim, request, completion)
    assert result.status in (Status.COMPLETED, Status.REJECTED)
    assert len(result.error_message or "") < 3000
    return result


def each_row_has_a_class(engine: sa.Engine) -> None:
    query = (
        "SELECT count(*) FROM forge.interactions WHERE status NOT IN ('completed', 'rejected')"
        " OR (status = 'rejected') = (error_class IS NULL)"
    )
    with engine.connect() as connection:
        assert connection.execute(sa.text(query)).scalar() == 0
        found = connection.execute(sa.text("SELECT DISTINCT error_class FROM forge.interactions"))
        classes = {row[0] for row in found}
    assert {None, "contract", "truncated", "repetition"} <= classes


def shown_without_harm(store: InteractionStore, scope: StageScope, keys: list[str]) -> None:
    (counts,) = store.stage_counts(
        "texts", "review", {step.name: f"v-{step.name}" for step in STEPS}
    )
    limits = Limits(max_gpu_memory=1, max_db_connections=1, min_available_memory_gb=0)
    report = read_stage_report(store, scope, counts, Thresholds(), limits)
    harmless(stage_report_markdown(report), "report")
    assert_neutral(json.dumps(stage_report_json(report)), "report.json")
    for key in keys[: len(BY_HAND)][:: max(1, len(BY_HAND) // SHOWN)]:
        trace = store.trace("texts", None, key)
        assert trace is not None, key
        harmless(subject_markdown(trace), key)
        harmless(interaction_markdown(trace.interactions[0]), key)
        assert_neutral(json.dumps(trace_json(trace)), key)
    for row in store.result_rows(scope):
        flat_row(row)


def harmless(markdown: str, what: str) -> None:
    """No raw control character, and for a Markdown reader no HTML, link or image but our own plots."""
    assert_neutral(markdown, what)
    for token in MARKDOWN.parse(markdown):
        for part in (token, *(token.children or ())):
            if part.type == "image" and re.fullmatch(r"plots/\w+\.png", str(part.attrs["src"])):
                continue
            assert part.type not in ("html_block", "html_inline", "link_open", "image"), (
                what,
                part.content[:200],
            )
