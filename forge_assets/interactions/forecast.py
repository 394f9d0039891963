"""How long the engines would take for the work at hand, and which one to take. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from resources.store_types import Residency


@dataclass(frozen=True)
class Forecast:
    """Seconds that an engine would take, from residencies that gave ``answers`` in all."""

    engine: str
    start_seconds: float
    work_seconds: float
    answers: int

    @property
    def seconds(self) -> float:
        return self.start_seconds + self.work_seconds


@dataclass(frozen=True)
class EngineChoice:
    """The engine of a model in one run, and why; ``forecast`` is None before one was measured."""

    engine: str
    reason: str
    forecast: Forecast | None = None


def forecast(engine: str, history: Sequence[Residency], work: Mapping[str, int]) -> Forecast | None:
    """From the engine's latest residencies of this model on this device.

    ``work`` is how many answers are wanted, by step. The time of an answer goes with its length.
    """
    busy = sum(one.busy_seconds for one in history)
    tokens = sum(one.output_tokens for one in history)
    if not tokens or not busy:
        return None
    wanted = sum(count * _length(history, step) for step, count in work.items())
    starts = [one.start_seconds for one in history if one.start_seconds]
    start = median(starts) if starts else 0.0
    answers = sum(one.interactions for one in history)
    return Forecast(engine, start, wanted * busy / tokens, answers)


def choose_engine(
    candidates: Sequence[str], forecasts: Mapping[str, Forecast | None]
) -> EngineChoice:
    """The candidate that would end first; the first one as long as it was not measured itself."""
    usual = candidates[0]
    known = {name: found for name in candidates if (found := forecasts.get(name)) is not None}
    if len(candidates) == 1:
        return EngineChoice(usual, "the only one installed for it", known.get(usual))
    if usual not in known:
        return EngineChoice(usual, "the usual one; not measured here yet")
    best = min(known.values(), key=lambda found: found.seconds)
    told = ", ".join(f"{name} {found.seconds:.0f} s" for name, found in known.items())
    unknown = [name for name in candidates if name not in known]
    if unknown:
        told += f"; not measured: {', '.join(unknown)}"
    return EngineChoice(best.engine, f"predicted: {told}", best)


def mean_lengths(history: Sequence[Residency]) -> dict[str, float]:
    """Output tokens of an answer, by step."""
    sums: dict[str, tuple[int, int]] = {}
    for one in history:
        for step, (answers, _, output) in one.steps.items():
            before = sums.get(step, (0, 0))
            sums[step] = (before[0] + answers, before[1] + output)
    return {step: output / answers for step, (answers, output) in sums.items() if answers}


def _length(history: Sequence[Residency], step: str) -> float:
    """Output tokens of one answer of the step; of any step where this one is new."""
    known = mean_lengths(history)
    if step in known:
        return known[step]
    answers = sum(one.interactions for one in history)
    return sum(one.output_tokens for one in history) / answers
