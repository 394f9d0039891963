"""The pre-flight of a stage: criteria in, GO or NO-GO out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forge_assets.gate import Decision, Open, Refuse, Wait
from resources.errors import ConfigurationError, ForgeError
from resources.gpu.weights import WeightsInfo
from resources.machine_limits import Criterion

_WORDS = {"go": "GO", "no_go": "NO-GO", "not_applicable": "n/a"}


@dataclass(frozen=True, slots=True)
class Preflight:
    """Whether a stage may start, and every criterion behind the answer."""

    stage: str
    criteria: tuple[Criterion, ...]

    @property
    def go(self) -> bool:
        """Nothing refuses, and something was looked at at all."""
        return bool(self.criteria) and not self.refusals

    @property
    def refusals(self) -> tuple[Criterion, ...]:
        return tuple(one for one in self.criteria if one.status == "no_go")

    def lines(self) -> list[str]:
        """One aligned line per criterion, then the answer."""
        width = max((len(one.name) for one in self.criteria), default=0)
        found = [
            f"{_WORDS[one.status]:<5}  {one.name:<{width}}  {one.detail}" for one in self.criteria
        ]
        answer = "GO" if self.go else "NO-GO"
        names = ", ".join(one.name for one in self.refusals)
        return [*found, f"{answer} for {self.stage}" + (f": {names}" if names else "")]

    def as_json(self) -> dict[str, Any]:
        criteria = [asdict(one) for one in self.criteria]
        return {"stage": self.stage, "go": self.go, "criteria": criteria}


def evaluate_preflight(
    stage: str,
    *,
    plan: str | None,
    plan_error: str | None,
    gate: Decision | None,
    previous: str | None,
    weights: Mapping[str, str | ConfigurationError],
    servers: Mapping[str, str | ForgeError],
    machine: Sequence[Criterion],
) -> Preflight:
    """Judge a stage.

    ``plan`` says what would be done, ``plan_error`` why it cannot be planned. ``gate`` is None
    when it could not be evaluated; ``previous`` is the stage before, None for the first.
    ``weights`` maps each model key to what there is of it, else to why a run could not get at it;
    ``servers`` the keys of models at servers to what those say.
    """
    return Preflight(
        stage,
        (
            _plan(plan, plan_error),
            _gate(gate, previous),
            *(_model(f"weights {key}", found) for key, found in weights.items()),
            *(_model(f"server {key}", found) for key, found in servers.items()),
            *machine,
        ),
    )


def _plan(plan: str | None, error: str | None) -> Criterion:
    if error is not None or plan is None:
        return Criterion("plan", "no_go", error or "could not be built")
    return Criterion("plan", "go", plan)


def _gate(gate: Decision | None, previous: str | None) -> Criterion:
    name = "gate"
    match gate:
        case Open():
            detail = f"{previous} passed" if previous else "no stage before this one"
            return Criterion(name, "go" if previous else "not_applicable", detail)
        case Wait(reason) | Refuse(reason):
            return Criterion(name, "no_go", reason)
        case _:
            return Criterion(name, "no_go", "could not be evaluated")


def weights_detail(present: WeightsInfo | None) -> str:
    """What there is of a model's weights; None: found, but not converted yet."""
    if present is None:
        return "found; the run converts them first"
    # A dtype chosen when the model is loaded may need half of what lies on the disk.
    return f"{present.architecture}, at most {present.bytes / 1e6:.0f} MB, converted"


def _model(name: str, found: str | ForgeError) -> Criterion:
    if isinstance(found, ForgeError):
        return Criterion(name, "no_go", str(found))
    return Criterion(name, "go", found)
