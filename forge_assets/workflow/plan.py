"""What happens to the steps of one subject as others end, and which version each step has.

How a step starts (``advance``), once all its needs have ended:

* a need whose branch was not taken is absent: its names are empty, and the step runs unless all its
  needs are absent;
* a need that was rejected or failed, or that was itself skipped after such an ancestor, skips the
  step, unless it says ``tolerate: true``. The step that ``when`` names and the steps named in the
  prompts count like needs here;
* then ``when`` decides on the answer of the step it names. No answer: the branch is not taken.

A step that is skipped because of ``when`` or because all its needs are absent is absent in turn.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from forge_assets.workflow.condition import why_not_taken
from forge_assets.workflow.steps import Step, Workflow
from forge_assets.workflow.template import placeholders
from resources.interaction import SkipKind, Status, StepState, Transition

_READY = Transition(ready=True)


def ancestors(workflow: Workflow) -> dict[str, frozenset[str]]:
    """Every step's ancestors through needs."""
    return workflow.graph.ancestors


def descendants(workflow: Workflow) -> dict[str, frozenset[str]]:
    """Every step's descendants through needs."""
    return workflow.graph.descendants


def topological_steps(workflow: Workflow) -> tuple[Step, ...]:
    """The steps, each after its needs; among equals in the order of the file."""
    return tuple(workflow.by_name[name] for name in workflow.graph.order)


def subject_fields(workflow: Workflow) -> set[str]:
    """The fields that the prompts expect in every subject."""
    return {
        placeholder.text[1:-1]
        for step in workflow.steps
        for placeholder in _placeholders_of(step)
        if placeholder.step is None
    }


def advance(workflow: Workflow, states: Mapping[str, StepState]) -> dict[str, Transition]:
    """Transitions of the steps that are pending and not ready, given all steps of one subject.

    Skips cascade within the call, so a second call with the transitions applied returns nothing. A
    step that ``states`` does not hold counts as not ended.
    """
    seen = dict(states)
    transitions: dict[str, Transition] = {}
    for name in workflow.graph.order:
        state = seen.get(name)
        if state is None or state.status is not Status.PENDING or state.ready:
            continue
        transition = _next(workflow.by_name[name], seen)
        if transition is None:
            continue
        transitions[name] = transition
        if not transition.ready:
            seen[name] = StepState(Status.SKIPPED, skip_kind=transition.skip_kind)
    return transitions


def step_versions(workflow: Workflow, models: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The version of every step: a hash of its definition, its model's, and its needs' versions.

    ``models`` gives the definition of every model key, JSON values only. A change reaches the step
    and its descendants, nothing else; comments, layout, the order of keys and of needs never count.
    """
    versions: dict[str, str] = {}
    for step in topological_steps(workflow):
        definition = step.model_dump(mode="json")
        definition["needs"] = sorted(step.needs)
        versions[step.name] = _digest(
            {
                "workflow": workflow.name,
                "step": definition,
                "model": dict(models[step.model]),
                "needs": {need: versions[need] for need in step.needs},
            }
        )
    return {step.name: versions[step.name] for step in workflow.steps}


def _next(step: Step, states: Mapping[str, StepState]) -> Transition | None:
    """What a pending step becomes, None while it must wait."""
    needs = [states.get(need) for need in step.needs]
    if any(need is None or not need.status.final for need in needs):
        return None
    if not step.tolerate:
        for name in _inputs(step):
            state = states.get(name)
            if state is not None and _lost(state):
                return _skip(SkipKind.ANCESTOR, _loss(name, state))
    if step.needs and all(need is not None and _absent(need) for need in needs):
        listed = ", ".join(step.needs)
        return _skip(SkipKind.BRANCH, f"no need has a result: {listed} took no branch")
    if step.when is None:
        return _READY
    asked = states.get(step.when.step)
    if asked is None or asked.status is not Status.COMPLETED:
        status = "unknown" if asked is None else asked.status.value
        return _skip(SkipKind.BRANCH, f"branch not taken: step '{step.when.step}' was {status}")
    reason = why_not_taken(step.when, asked.parsed)
    return _skip(SkipKind.BRANCH, reason) if reason else _READY


@lru_cache(maxsize=1024)
def _named_in_prompts(prompt: str, system: str | None) -> tuple[str, ...]:
    found = placeholders(prompt) + placeholders(system or "")
    return tuple(dict.fromkeys(item.step for item in found if item.step is not None))


def _inputs(step: Step) -> tuple[str, ...]:
    """The steps whose loss skips this one: its needs, its condition, the steps its prompts name."""
    asked = (step.when.step,) if step.when else ()
    return step.needs + asked + _named_in_prompts(step.prompt, step.system)


def _placeholders_of(step: Step) -> Any:
    return placeholders(step.prompt) + placeholders(step.system or "")


def _lost(state: StepState) -> bool:
    if state.status is Status.SKIPPED:
        return state.skip_kind is SkipKind.ANCESTOR
    return state.status in (Status.REJECTED, Status.FAILED)


def _absent(state: StepState) -> bool:
    return state.status is Status.SKIPPED and state.skip_kind is not SkipKind.ANCESTOR


def _loss(name: str, state: StepState) -> str:
    if state.status is Status.SKIPPED:
        return f"step '{name}' was skipped after an ancestor of its own was rejected or failed"
    return f"step '{name}' was {state.status.value}"


def _skip(kind: SkipKind, reason: str) -> Transition:
    return Transition(skip_kind=kind, skip_reason=reason)


def _digest(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
