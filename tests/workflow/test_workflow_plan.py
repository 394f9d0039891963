"""How the steps of one subject move on, on hand-made cases and on random graphs."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge_assets.workflow.plan import (
    advance,
    ancestors,
    descendants,
    subject_fields,
    topological_steps,
)
from forge_assets.workflow.spec import Step, Workflow
from resources.interaction import SkipKind, Status, StepState, Transition

PENDING = StepState(Status.PENDING)
ABSENT = StepState(Status.SKIPPED, skip_kind=SkipKind.BRANCH)
LOST = StepState(Status.SKIPPED, skip_kind=SkipKind.ANCESTOR)
REJECTED = StepState(Status.REJECTED, output="bad")
FAILED = StepState(Status.FAILED)
READY = Transition(ready=True)


def done(parsed: Any = None) -> StepState:
    return StepState(Status.COMPLETED, output="fine", parsed=parsed)


def make(*steps: dict[str, Any]) -> Workflow:
    filled = [{"model": "m", "prompt": "p", **step} for step in steps]
    return Workflow("w", tuple(Step.model_validate(step) for step in filled))


def decide(step: dict[str, Any], **states: StepState) -> Transition | None:
    """The transition of a step that comes after the named states (roots a, b, c)."""
    roots = ({"name": name} for name in states)
    workflow = make(*roots, {"name": "last", **step})
    transitions = advance(workflow, {**states, "last": PENDING})
    assert set(transitions) <= {"last"}
    return transitions.get("last")


def test_a_root_becomes_ready() -> None:
    assert decide({}) == READY


def test_waits_until_every_need_has_ended() -> None:
    step = {"needs": ["a", "b"]}
    for other in (StepState(Status.PENDING, ready=True), StepState(Status.RUNNING)):
        assert decide(step, a=done(), b=other) is None
        assert decide(step, a=REJECTED, b=other) is None
        assert decide({**step, "tolerate": True}, a=REJECTED, b=other) is None
    assert decide(step, a=done(), b=done()) == READY


def test_an_unknown_state_counts_as_not_ended() -> None:
    workflow = make({"name": "a"}, {"name": "b", "needs": ["a"]})
    assert advance(workflow, {"b": PENDING}) == {}
    assert advance(workflow, {"b": PENDING, "gone": done()}) == {}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (REJECTED, "step 'b' was rejected"),
        (FAILED, "step 'b' was failed"),
        (LOST, "step 'b' was skipped after an ancestor of its own was rejected or failed"),
    ],
)
def test_a_lost_need_skips_the_step_unless_it_tolerates(state: StepState, reason: str) -> None:
    skip = Transition(skip_kind=SkipKind.ANCESTOR, skip_reason=reason)
    assert decide({"needs": ["a", "b"]}, a=done(), b=state) == skip
    assert decide({"needs": ["b"]}, b=state) == skip
    assert decide({"needs": ["a", "b"]}, a=ABSENT, b=state) == skip
    assert decide({"needs": ["a", "b"], "tolerate": True}, a=done(), b=state) == READY
    assert decide({"needs": ["b"], "tolerate": True}, b=state) == READY
    assert decide({"needs": ["a", "b"], "tolerate": True}, a=ABSENT, b=state) == READY


def test_an_absent_need_is_not_fatal_but_all_absent_are() -> None:
    assert decide({"needs": ["a", "b"]}, a=done(), b=ABSENT) == READY
    skip = Transition(
        skip_kind=SkipKind.BRANCH, skip_reason="no need has a result: a, b took no branch"
    )
    assert decide({"needs": ["a", "b"]}, a=ABSENT, b=ABSENT) == skip
    assert decide({"needs": ["a", "b"], "tolerate": True}, a=ABSENT, b=ABSENT) == skip


def test_absence_runs_down_to_a_step_that_has_another_need() -> None:
    workflow = make(
        {"name": "a"},
        {"name": "b", "needs": ["a"]},
        {"name": "c", "needs": ["b"]},
        {"name": "d", "needs": ["c", "a"]},
    )
    states = {"a": done(), "b": ABSENT, "c": PENDING, "d": PENDING}
    transitions = advance(workflow, states)
    assert transitions["c"].skip_kind is SkipKind.BRANCH
    assert transitions["d"] == READY


def test_a_loss_cascades_in_one_call() -> None:
    workflow = make(
        {"name": "a"},
        {"name": "b", "needs": ["a"]},
        {"name": "c", "needs": ["b"]},
        {"name": "d", "needs": ["c"], "tolerate": True},
    )
    states = {"a": FAILED, "b": PENDING, "c": PENDING, "d": PENDING}
    transitions = advance(workflow, states)
    assert transitions["b"].skip_reason == "step 'a' was failed"
    assert transitions["c"].skip_kind is SkipKind.ANCESTOR
    assert transitions["d"] == READY


WHEN = {"needs": ["a"], "when": {"step": "a", "path": "n", "op": "<=", "value": 2}}


def test_when_decides_after_the_needs() -> None:
    assert decide(WHEN, a=done({"n": 2})) == READY
    assert decide(WHEN, a=done({"n": 3})) == Transition(
        skip_kind=SkipKind.BRANCH, skip_reason="branch not taken: a.n is 3, not <= 2"
    )
    assert decide(WHEN, a=done({})) == Transition(
        skip_kind=SkipKind.BRANCH, skip_reason="branch not taken: a.n is not in the answer"
    )
    assert decide(WHEN, a=StepState(Status.RUNNING)) is None
    lost = decide(WHEN, a=REJECTED)
    assert lost is not None
    assert lost.skip_kind is SkipKind.ANCESTOR


def test_when_without_an_answer_takes_no_branch() -> None:
    step = {**WHEN, "needs": ["a", "b"]}
    skip = decide(step, a=ABSENT, b=done())
    assert skip == Transition(
        skip_kind=SkipKind.BRANCH, skip_reason="branch not taken: step 'a' was skipped"
    )
    tolerant = decide({**WHEN, "tolerate": True}, a=REJECTED)
    assert tolerant == Transition(
        skip_kind=SkipKind.BRANCH, skip_reason="branch not taken: step 'a' was rejected"
    )


@pytest.mark.parametrize(
    "use", [{"prompt": "{a.output}"}, {"system": "{a.output}"}, {"when": WHEN["when"]}]
)
def test_a_lost_step_that_is_named_counts_like_a_need(use: dict[str, Any]) -> None:
    workflow = make(
        {"name": "a"},
        {"name": "b", "needs": ["a"], "tolerate": True},
        {"name": "plain", "needs": ["b"]},
        {"name": "uses", "needs": ["b"], **use},
    )
    states = {"a": REJECTED, "b": done(), "plain": PENDING, "uses": PENDING}
    transitions = advance(workflow, states)
    assert transitions["plain"] == READY
    assert transitions["uses"] == Transition(
        skip_kind=SkipKind.ANCESTOR, skip_reason="step 'a' was rejected"
    )


def test_only_pending_steps_that_are_not_ready_move() -> None:
    workflow = make({"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"})
    states = {
        "a": StepState(Status.PENDING, ready=True),
        "b": StepState(Status.RUNNING),
        "c": done(),
        "d": PENDING,
    }
    assert advance(workflow, states) == {"d": READY}


def test_orders() -> None:
    workflow = make(
        {"name": "d", "needs": ["b", "c"]},
        {"name": "c", "needs": ["a"]},
        {"name": "b", "needs": ["a"]},
        {"name": "a", "prompt": "{text} {title} {text}", "system": "{tone}"},
    )
    assert [step.name for step in topological_steps(workflow)] == ["a", "c", "b", "d"]
    assert ancestors(workflow) == {"d": {"a", "b", "c"}, "c": {"a"}, "b": {"a"}, "a": set()}
    assert descendants(workflow) == {"d": set(), "c": {"d"}, "b": {"d"}, "a": {"b", "c", "d"}}
    assert subject_fields(workflow) == {"text", "title", "tone"}


# ---- random graphs

OUTCOMES = (Status.COMPLETED, Status.REJECTED, Status.FAILED)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Up to eight steps; conditions and prompts name true ancestors."""
    steps: list[dict[str, Any]] = []
    above: dict[str, set[str]] = {}
    for position in range(draw(st.integers(1, 8))):
        names = [step["name"] for step in steps]
        some = st.lists(st.sampled_from(names), unique=True, max_size=3) if names else st.just([])
        needs = draw(some)
        tolerate, branches, quotes = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
        step: dict[str, Any] = {"name": f"s{position}", "needs": needs, "tolerate": tolerate}
        above[step["name"]] = set(needs).union(*(above[need] for need in needs))
        known = sorted(above[step["name"]])
        if known and branches:
            asked = draw(st.sampled_from(known))
            step["when"] = {
                "step": asked,
                "path": "n",
                "op": "<=",
                "value": draw(st.integers(0, 2)),
            }
        if known and quotes:
            step["prompt"] = f"{{{draw(st.sampled_from(known))}.output}}"
        steps.append(step)
    return make(*steps)


@st.composite
def outcomes(draw: st.DrawFn) -> dict[str, StepState]:
    """What each step would answer if it ran."""
    states = {}
    for position in range(8):
        status = draw(st.sampled_from(OUTCOMES))
        parsed = draw(st.sampled_from([{"n": 0}, {"n": 1}, {"n": 2}, {"n": "x"}, {}]))
        states[f"s{position}"] = StepState(status, output="o", parsed=parsed)
    return states


def play(workflow: Workflow, answers: dict[str, StepState], seed: int) -> dict[str, StepState]:
    """Run a subject to its end, finishing ready steps in a random order, checking each move."""
    chance = random.Random(seed)
    states = {step.name: PENDING for step in workflow}
    started: list[str] = []
    for _ in range(2 * len(states) + 2):
        transitions = advance(workflow, states)
        for name, transition in transitions.items():
            assert states[name] == PENDING
            assert transition.ready != (transition.skip_kind is not None)
            assert bool(transition.skip_reason) == (transition.skip_kind is not None)
        states |= {name: after(transition) for name, transition in transitions.items()}
        for name in transitions:
            needs = workflow.by_name[name].needs
            assert all(states[need].status.final for need in needs)
        assert advance(workflow, states) == {}, "one call reaches the end of the cascade"
        ready = [name for name, state in states.items() if state.ready]
        if not ready:
            break
        chosen = chance.choice(ready)
        started.append(chosen)
        states[chosen] = answers[chosen]
    assert len(started) == len(set(started))
    return states


def after(transition: Transition) -> StepState:
    if transition.ready:
        return StepState(Status.PENDING, ready=True)
    return StepState(Status.SKIPPED, skip_kind=transition.skip_kind)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(workflows(), outcomes(), st.integers(0, 1000), st.integers(0, 1000))
def test_every_subject_ends_and_the_order_of_finishing_does_not_matter(
    workflow: Workflow, answers: dict[str, StepState], one: int, other: int
) -> None:
    end = play(workflow, answers, one)
    assert all(state.status.final for state in end.values())
    assert end == play(workflow, answers, other)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(workflows(), outcomes())
def test_without_losses_only_branches_skip(
    workflow: Workflow, answers: dict[str, StepState]
) -> None:
    good = {
        name: StepState(Status.COMPLETED, output="o", parsed=state.parsed)
        for name, state in answers.items()
    }
    for state in play(workflow, good, 0).values():
        assert state.skip_kind in (None, SkipKind.BRANCH)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(workflows(), outcomes())
def test_a_step_runs_after_a_lost_need_only_if_it_tolerates(
    workflow: Workflow, answers: dict[str, StepState]
) -> None:
    end = play(workflow, answers, 0)
    for step in workflow:
        lost = any(
            end[need] == LOST or end[need].status in (Status.REJECTED, Status.FAILED)
            for need in step.needs
        )
        if lost and end[step.name].status is not Status.SKIPPED:
            assert step.tolerate
