"""The wave on a real store: order, retries, limits, and what is left when it is stopped."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from forge_assets.interactions.budget import Budget
from forge_assets.interactions.clerk import WorkOrder
from forge_assets.interactions.made import Made
from forge_assets.interactions.wave import (
    Patience,
    Turns,
    WaveHooks,
    WaveOutcome,
    choose_model,
    run_wave,
)
from forge_assets.workflow.plan import advance
from forge_assets.workflow.spec import Step, Workflow
from resources.gpu.engines.base import Completion, EngineError, GenerationRequest
from resources.interaction import ErrorClass
from resources.interaction_store import InteractionStore, PlannedStep, StageScope
from resources.subject_record import subject_record

RUN = "run-1"


@dataclass
class Echo:
    """An engine that answers with the prompt, and keeps what it was asked in which call."""

    max_batch: int = 4
    calls: list[list[GenerationRequest]] = field(default_factory=list)
    answer: Callable[[GenerationRequest], str] = lambda request: request.prompt

    def check(self, request: GenerationRequest) -> EngineError | None:
        refused = EngineError(ErrorClass.PROMPT_TOO_LONG, "too long")
        return refused if "refuse me" in request.prompt else None

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[Completion]:
        self.calls.append(list(requests))
        for request in requests:
            error = self.check(request)
            if error is None:
                yield Completion(request.request_id, self.answer(request), "stop", 1, 1, 0.1)
            else:
                yield Completion(request.request_id, "", "error", 0, 0, 0.0, error)

    def trim(self) -> None:
        """Nothing to free."""

    def close(self) -> None:
        self.calls.clear()


def step(name: str, model: str, **more: object) -> Step:
    return Step.model_validate({"name": name, "model": model, "prompt": "{text}", **more})


@dataclass
class Stage:
    """One planned stage, and the engines that work on it."""

    store: InteractionStore
    workflow: Workflow
    scope: StageScope
    engines: dict[str, Echo]
    loaded: list[str] = field(default_factory=list)
    breach: Callable[[], str | None] = lambda: None
    residencies: list[tuple[str, Made]] = field(default_factory=list)
    group_wait: float = 600.0

    def order(self, **changes: object) -> WorkOrder:
        steps = frozenset(step.name for step in self.workflow.steps)
        versions = {name: f"v-{name}" for name in steps}
        return replace(WorkOrder(self.scope, self.workflow, RUN, steps, versions), **changes)  # type: ignore[arg-type]

    def run(self, limit: int | None = None, **changes: object) -> WaveOutcome:
        order = self.order(**changes)
        hooks = replace(self.hooks(), awaited=lambda: order.steps, budget=Budget(limit))
        return run_wave(self.store, order, hooks)

    def hooks(self) -> WaveHooks:
        return WaveHooks(
            engine=self.load,
            last_batches=lambda model: nullcontext(),
            left=lambda model, made, seconds: self.residencies.append((model, made)),
            resident=lambda: list(self.loaded),
            heartbeat=lambda: None,
            breach=self.breach,
            progress=lambda model, tally: None,
            waiting=lambda work: None,
            reclaim_dead=lambda: 0,
            group_wait=self.group_wait,
            awaited=lambda: self.order().steps,
            moved=lambda: None,
            pause=time.sleep,
            budget=Budget(),
        )

    def load(self, model: str) -> Echo:
        if model not in self.loaded:
            self.loaded.append(model)
        return self.engines[model]

    def statuses(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in self.store.step_counts(self.scope):
            for status in ("pending", "running", "completed", "rejected", "failed", "skipped"):
                counts[status] = counts.get(status, 0) + getattr(row, status)
        return {status: count for status, count in counts.items() if count}


def planned(engine: sa.Engine, steps: list[Step], texts: list[str]) -> Stage:
    store = InteractionStore(engine)
    records = [
        subject_record({"key": f"s{n}", "text": text}, None, 1000) for n, text in enumerate(texts)
    ]
    store.ingest("d", records)
    scope = StageScope("d", "w", "canary", 0, len(texts))
    store.sync_stages("d", [("canary", 0, len(texts))])
    workflow = Workflow("w", tuple(steps), Path("w.yaml"))
    rows = [PlannedStep(s.name, f"v-{s.name}", s.model, root=not s.needs) for s in steps]
    store.plan_stage(scope, rows, advance=lambda states: advance(workflow, states))
    store.register_run(RUN, scope, pid=1, host="here")
    return Stage(store, workflow, scope, {s.model: Echo() for s in steps})


def test_one_residency_drains_a_model_with_the_children_that_become_ready(
    postgres_engine: sa.Engine,
) -> None:
    steps = [
        step("one", "a"),
        step("two", "a", needs=["one"], prompt="again {one.output}"),
        step("three", "b", needs=["two"], prompt="third {two.output}"),
    ]
    stage = planned(postgres_engine, steps, ["x", "y", "z"])
    outcome = stage.run()
    assert stage.statuses() == {"completed": 9}
    assert stage.loaded == ["a", "b"]
    assert outcome.tally.finished == 9


def test_interactions_of_several_steps_are_handed_over_together(postgres_engine: sa.Engine) -> None:
    steps = [step("one", "a"), step("two", "a", prompt="second {text}")]
    stage = planned(postgres_engine, steps, ["x", "y"])
    stage.run()
    assert sorted(request.prompt for request in stage.engines["a"].calls[0]) == [
        "second x",
        "second y",
        "x",
        "y",
    ]


def test_a_refused_output_is_tried_again_and_then_rejected(postgres_engine: sa.Engine) -> None:
    steps = [step("one", "a", output={"pattern": "^good"}, retries=2)]
    stage = planned(postgres_engine, steps, ["bad", "good"])
    stage.run()
    assert stage.statuses() == {"completed": 1, "rejected": 1}
    asked = [request.prompt for call in stage.engines["a"].calls for request in call]
    assert asked.count("bad") == 3
    assert asked.count("good") == 1


def test_what_the_engine_does_not_take_fails_alone(postgres_engine: sa.Engine) -> None:
    steps = [step("one", "a"), step("two", "a", needs=["one"], prompt="{one.output}")]
    stage = planned(postgres_engine, steps, ["x", "refuse me", "y"])
    stage.run()
    assert stage.statuses() == {"completed": 4, "failed": 1, "skipped": 1}


def test_a_missing_field_fails_its_row_without_the_engine(postgres_engine: sa.Engine) -> None:
    stage = planned(postgres_engine, [step("one", "a", prompt="{other}")], ["x"])
    stage.run()
    assert stage.statuses() == {"failed": 1}
    assert stage.engines["a"].calls == []


def test_a_limited_number_of_interactions_leaves_the_rest_pending(
    postgres_engine: sa.Engine,
) -> None:
    stage = planned(postgres_engine, [step("one", "a")], list("abcde"))
    stage.run(limit=3)
    assert stage.statuses() == {"completed": 3, "pending": 2}
    stage.run()
    assert stage.statuses() == {"completed": 5}


def test_selected_subjects_and_steps_only(postgres_engine: sa.Engine) -> None:
    steps = [step("one", "a"), step("two", "a", needs=["one"], prompt="{one.output}")]
    stage = planned(postgres_engine, steps, list("abc"))
    first = stage.store.unfinished_subject_ids(stage.scope, 1)
    stage.run(subject_ids=frozenset(first))
    assert stage.statuses() == {"completed": 2, "pending": 4}
    stage.run(steps=frozenset({"one"}))
    assert stage.statuses() == {"completed": 4, "pending": 2}


def test_a_broken_limit_stops_claiming_and_hands_back(postgres_engine: sa.Engine) -> None:
    stage = planned(postgres_engine, [step("one", "a")], [str(n) for n in range(40)])
    engine = stage.engines["a"]
    stage.breach = lambda: "memory is low" if engine.calls else None
    outcome = stage.run()
    assert outcome.halted == "memory is low"
    done = len(engine.calls[0])
    assert len(engine.calls) == 1
    assert stage.statuses() == {"completed": done, "pending": 40 - done}


def test_an_interrupted_wave_commits_what_it_has_and_hands_back_the_rest(
    postgres_engine: sa.Engine,
) -> None:
    def interrupted_at_the_third(request: GenerationRequest) -> str:
        if request.prompt == "2":
            raise KeyboardInterrupt
        return request.prompt

    stage = planned(postgres_engine, [step("one", "a")], [str(n) for n in range(8)])
    stage.engines["a"].answer = interrupted_at_the_third
    with pytest.raises(KeyboardInterrupt):
        stage.run()
    assert stage.statuses() == {"completed": 2, "pending": 6}
    stage.engines["a"].answer = lambda request: request.prompt
    stage.run()
    assert stage.statuses() == {"completed": 8}


def test_a_run_that_lost_its_claim_does_not_overwrite(postgres_engine: sa.Engine) -> None:
    stage = planned(postgres_engine, [step("one", "a")], ["x"])

    def stolen(request: GenerationRequest) -> str:
        stage.store.reclaim_run(RUN)
        stage.engines["a"].answer = lambda request: "second"
        return "first"

    stage.engines["a"].answer = stolen
    outcome = stage.run()
    assert outcome.tally.refused == 1
    assert [
        row.output_excerpt for row in stage.store.worst_examples(stage.scope, status="completed")
    ] == ["second"]


def test_the_loaded_model_goes_first_then_the_one_with_most_to_do() -> None:
    assert choose_model({"a": 1, "b": 9, "c": 9}, resident=["a"]) == "a"
    assert choose_model({"a": 1, "b": 9, "c": 9}, resident=[]) == "b"


def test_a_residency_is_told_with_what_it_made(postgres_engine: sa.Engine) -> None:
    steps = [step("one", "a"), step("two", "b", needs=["one"]), step("three", "a")]
    stage = planned(postgres_engine, steps, ["x", "y"])
    stage.run()
    assert [(model, made.steps) for model, made in stage.residencies] == [
        ("a", {"one": (2, 2, 2), "three": (2, 2, 2)}),
        ("b", {"two": (2, 2, 2)}),
    ]


def test_models_take_turns_once_others_have_waited(postgres_engine: sa.Engine) -> None:
    """Without patience every window ends the turn; a model that was loaded is not loaded again."""
    steps = [step("one", "a"), step("two", "b")]
    stage = planned(postgres_engine, steps, [f"text {n}" for n in range(60)])
    stage.group_wait = 0.0
    stage.run()
    assert stage.statuses() == {"completed": 120}
    turns = [model for model, _ in stage.residencies]
    assert turns[:4] == ["a", "b", "a", "b"]
    assert stage.loaded == ["a", "b"]


def test_whose_turn_is_longest_ago_comes_next() -> None:
    turns = Turns()
    ready = {"a": 5, "b": 1, "c": 1}
    assert turns.next(ready, resident=(), gave_way=None) == "a"
    assert turns.next(ready, resident=("a",), gave_way="a") == "b"
    assert turns.next(ready, resident=("a", "b"), gave_way="b") == "c"
    assert turns.next(ready, resident=("a", "b"), gave_way="c") == "a"
    assert turns.next({"c": 1}, resident=("a",), gave_way="c") == "c"


def test_patience_ends_when_the_time_is_up_and_another_model_is_ready() -> None:
    now = [0.0]
    ready = {"a": 1}
    patience = Patience("a", 10.0, lambda: ready, clock=lambda: now[0])
    assert not patience.over()
    now[0] = 11.0
    assert not patience.over()
    ready["b"] = 1
    assert not patience.over(), "the store is asked once a second only"
    now[0] = 12.1
    assert patience.over()
    assert patience.over(), "and stays over"


def test_expected_lengths_are_learned_by_step(postgres_engine: sa.Engine) -> None:
    stage = planned(postgres_engine, [step("one", "a")], [f"text {n}" for n in range(40)])
    stage.run()
    expected = [request.expected_tokens for call in stage.engines["a"].calls for request in call]
    assert expected[0] == stage.engines["a"].calls[0][0].max_new_tokens
    assert expected[-1] == 1
