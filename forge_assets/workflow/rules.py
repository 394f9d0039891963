"""What must hold between the steps of a workflow file, checked when it is loaded."""

from collections.abc import Collection, Iterable, Sequence

from forge_assets.schema_errors import Location, did_you_mean
from forge_assets.workflow.graph import Graph, cycle_in
from forge_assets.workflow.json_schema import path_fault, type_fault
from forge_assets.workflow.steps import Step, When
from forge_assets.workflow.template import Placeholder, TemplateError, placeholders
from forge_assets.yaml_document import YamlDocument


def check_rules(document: YamlDocument, steps: Sequence[Step], model_keys: Collection[str]) -> None:
    """ConfigurationError for the first rule that the steps break."""
    _check_names(document, steps)
    _check_models(document, steps, model_keys)
    _check_needs(document, steps)
    checker = _References(document, steps)
    for position, step in enumerate(steps):
        checker.check_step(step, ("steps", position))


def _check_names(document: YamlDocument, steps: Sequence[Step]) -> None:
    first: dict[str, int] = {}
    for position, step in enumerate(steps):
        if step.name in first:
            raise document.error(
                ("steps", position, "name"),
                f"'{step.name}' is already the name of steps[{first[step.name]}]; rename one",
            )
        first[step.name] = position


def _check_models(
    document: YamlDocument, steps: Sequence[Step], model_keys: Collection[str]
) -> None:
    for position, step in enumerate(steps):
        if step.model not in model_keys:
            raise document.error(
                ("steps", position, "model"),
                _unknown("model", step.model, model_keys, "models in forge.yaml"),
            )


def _check_needs(document: YamlDocument, steps: Sequence[Step]) -> None:
    names = [step.name for step in steps]
    for position, step in enumerate(steps):
        for i, need in enumerate(step.needs):
            location: Location = ("steps", position, "needs", i)
            if need not in names:
                raise document.error(location, _unknown("step", need, names))
            if need == step.name:
                raise document.error(location, f"step '{need}' needs itself; remove it")
            if need in step.needs[:i]:
                raise document.error(location, f"'{need}' stands here twice; remove one")
    cycle = cycle_in({step.name: step.needs for step in steps})
    if cycle:
        position = names.index(cycle[0])
        raise document.error(
            ("steps", position, "needs"),
            f"the needs run in a circle: {' needs '.join(cycle)}; remove one of them",
        )


class _References:
    """Checks what the templates and conditions of a step say about other steps."""

    def __init__(self, document: YamlDocument, steps: Sequence[Step]) -> None:
        self._document = document
        self._steps = {step.name: step for step in steps}
        self._ancestors = Graph({step.name: step.needs for step in steps}).ancestors

    def check_step(self, step: Step, location: Location) -> None:
        for key, template in (("prompt", step.prompt), ("system", step.system)):
            if template is not None:
                self._check_template(step, (*location, key), template)
        if step.when is not None:
            self._check_when(step, step.when, (*location, "when"))

    def _check_template(self, step: Step, location: Location, template: str) -> None:
        try:
            found = placeholders(template)
        except TemplateError as error:
            raise self._document.error(location, str(error)) from None
        for placeholder in found:
            fault = self._placeholder_fault(step, placeholder)
            if fault:
                raise self._document.error(location, fault)

    def _placeholder_fault(self, step: Step, placeholder: Placeholder) -> str | None:
        if placeholder.step is None:
            return None
        inside = f" in {placeholder.text}"
        fault = self._ancestor_fault(step, placeholder.step, inside)
        if fault is None and placeholder.parsed:
            fault = self._parsed_fault(placeholder.step, placeholder.path)
            return f"{placeholder.text}: {fault}" if fault else None
        return fault

    def _check_when(self, step: Step, when: When, location: Location) -> None:
        fault = self._ancestor_fault(step, when.step, "")
        if fault:
            raise self._document.error((*location, "step"), fault)
        path = tuple(when.path.split(".")) if when.path else ()
        fault = self._parsed_fault(when.step, path)
        if fault:
            raise self._document.error((*location, "path" if path else "step"), fault)
        fault = self._value_fault(when, path)
        if fault:
            raise self._document.error((*location, "value"), fault)

    def _ancestor_fault(self, step: Step, name: str, inside: str) -> str | None:
        if name not in self._steps:
            return _unknown("step", name, self._steps, inside=inside)
        if name in self._ancestors[step.name]:
            return None
        if name == step.name:
            return f"step '{name}'{inside} is the step itself; name one that comes before it"
        if step.name in self._ancestors[name]:
            return f"step '{name}'{inside} comes after '{step.name}'; name one that comes before it"
        return (
            f"step '{name}'{inside} does not come before '{step.name}'; "
            f"add '{name}' to the needs of '{step.name}'"
        )

    def _parsed_fault(self, name: str, path: Sequence[str]) -> str | None:
        contract = self._steps[name].output
        if contract.json_schema is not None:
            return path_fault(contract.json_schema, path)
        if contract.one_of is None:
            return f"step '{name}' has no parsed answer; give its output a json_schema or one_of"
        if path:
            return f"the answer of step '{name}' is one of its texts and has no '{path[0]}'"
        return None

    def _value_fault(self, when: When, path: Sequence[str]) -> str | None:
        """A value that the tested answer can never have, so that the branch is never taken."""
        contract = self._steps[when.step].output
        wanted = when.value if when.op == "in" and isinstance(when.value, list) else [when.value]
        if when.op == "contains":
            return None
        for value in wanted:
            if contract.one_of is not None:
                if when.op in ("==", "!=", "in") and value not in contract.one_of:
                    return _unknown("choice", str(value), contract.one_of)
            elif contract.json_schema is not None:
                fault = type_fault(contract.json_schema, path, value)
                if fault:
                    return f"{value!r} can never match: {when.path or 'the answer'} {fault}"
        return None


def _unknown(
    noun: str, name: str, known: Iterable[str], source: str | None = None, inside: str = ""
) -> str:
    names = list(known)
    return (
        f"unknown {noun} '{name}'{inside}{did_you_mean(name, names)}; "
        f"known {source or noun + 's'}: {', '.join(names) or 'none'}"
    )
