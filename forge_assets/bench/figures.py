"""What one contestant did, and what follows from it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PROJECTED_ROWS = 500


@dataclass(frozen=True)
class Run:
    """All rows once. ``valid``: rows whose text passes its contract; None where texts mean nothing."""

    rows: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    valid: int | None = None
    gpu_busy: float | None = None
    """Mean share of the time in which the GPU worked; None without a GPU that tells."""

    @property
    def tokens_per_second(self) -> float:
        return self.output_tokens / self.seconds


@dataclass(frozen=True)
class Figures:
    """A contestant's runs over the same rows, in one process."""

    name: str
    start_up: float
    """Seconds from weights on disk (in memory, where the record says so) to a first token."""
    loads: int
    runs: tuple[Run, ...]
    least: float
    """Seconds of the roofline for the same rows."""
    equal_rows: int | None = None
    """Rows with the text that sequential ``generate`` gives; None where that was not compared."""
    compared_rows: int | None = None

    @property
    def best(self) -> Run:
        """Whatever else the machine does only makes a run slower."""
        return max(self.runs, key=lambda run: run.tokens_per_second)

    @property
    def seconds_each(self) -> float:
        return self.best.seconds / self.best.rows

    @property
    def projected(self) -> bool:
        """Whether fewer rows were run than the total speaks of."""
        return self.best.rows < PROJECTED_ROWS

    @property
    def total(self) -> float:
        """Seconds for 500 interactions, start-up included."""
        return self.start_up + PROJECTED_ROWS * self.seconds_each

    @property
    def share(self) -> float:
        """Of the roofline."""
        return self.least / self.best.seconds

    def times_in_tokens(self, other: "Figures") -> float:
        """Tokens a second as a multiple of the other's."""
        return self.best.tokens_per_second / other.best.tokens_per_second

    def as_json(self, sequential: "Figures") -> dict[str, Any]:
        """Every figure, measured and derived; seconds and shares are not rounded."""
        best = self.best
        return {
            "name": self.name,
            "start_up": self.start_up,
            "loads": self.loads,
            "rows": best.rows,
            "prompt_tokens": best.prompt_tokens,
            "output_tokens": best.output_tokens,
            "seconds": best.seconds,
            "all_seconds": [run.seconds for run in self.runs],
            "seconds_each": self.seconds_each,
            "tokens_per_second": best.tokens_per_second,
            "times_sequential_in_tokens": self.times_in_tokens(sequential),
            "times_sequential_in_interactions": sequential.seconds_each / self.seconds_each,
            "interactions_per_minute": 60 / self.seconds_each,
            "valid": best.valid,
            "valid_per_second": None if best.valid is None else best.valid / best.seconds,
            "gpu_busy": best.gpu_busy,
            "seconds_for_500": self.total,
            "projected": self.projected,
            "roofline_seconds": self.least,
            "roofline_share": self.share,
            "equal_rows": self.equal_rows,
            "compared_rows": self.compared_rows,
        }


def named(figures: Iterable[Figures], name: str) -> Figures:
    """The contestant's. StopIteration when it did not run."""
    return next(one for one in figures if one.name == name)
