"""All contestants over the same work in one dtype, in turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from forge_assets.bench.contestants import (
    CONTINUOUS,
    SEQUENTIAL,
    STATIC,
    VLLM,
    Contestant,
    Entrant,
    why_not,
)
from forge_assets.bench.figures import Figures, named
from forge_assets.bench.machine import measure_peaks
from forge_assets.bench.roofline import ModelSize, Peaks, floor
from forge_assets.bench.work import Work
from resources.errors import ForgeError
from resources.gpu.dtype_probe import choose_device
from resources.gpu.model_config import Dtype

_TURNS = ((SEQUENTIAL, STATIC, CONTINUOUS), (VLLM,))
"""Who takes turns with whom. vLLM reserves nearly all of a GPU, so it runs when the others are gone."""


@dataclass(frozen=True)
class Contest:
    """One dtype. ``absent``: who did not take part, and why."""

    dtype: Dtype
    peaks: Peaks
    contestants: tuple[Figures, ...]
    absent: dict[str, str]

    @property
    def sequential(self) -> Figures:
        return named(self.contestants, SEQUENTIAL.name)

    @property
    def ours(self) -> Figures:
        """The faster of our engine's two ways."""
        return max(
            (one for one in self.contestants if one.name in (STATIC.name, CONTINUOUS.name)),
            key=lambda one: one.best.tokens_per_second,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "bytes_per_second": self.peaks.bandwidth,
            "flops_per_second": self.peaks.flops,
            "contestants": [one.as_json(self.sequential) for one in self.contestants],
            "absent": self.absent,
        }


def hold_contest(
    dtype: Dtype, work: Work, sequential_rows: int, repeats: int, say: Callable[[str], None]
) -> Contest:
    """Every contestant ``repeats`` times over the work; sequential over the first of its rows.

    Every row is generated sequentially once, so that all texts can be compared.
    """
    peaks = measure_peaks(choose_device("auto"), dtype)
    referee = _Referee(dtype, work, peaks, sequential_rows, repeats, say)
    for group in _TURNS:
        referee.turns(group)
    return Contest(dtype, peaks, tuple(referee.figures), referee.absent)


class _Referee:
    """Lets groups of contestants run, and keeps what sequential ``generate`` found."""

    def __init__(
        self,
        dtype: Dtype,
        work: Work,
        peaks: Peaks,
        sequential_rows: int,
        repeats: int,
        say: Callable[[str], None],
    ) -> None:
        self._dtype, self._work, self._peaks = dtype, work, peaks
        self._sequential_rows, self._repeats, self._say = sequential_rows, repeats, say
        self._texts: dict[int, str] = {}
        self._prompts: dict[int, Sequence[int]] = {}
        self._size: ModelSize | None = None
        self.figures: list[Figures] = []
        self.absent: dict[str, str] = {}

    def turns(self, group: Sequence[Contestant]) -> None:
        """All of the group are in memory together."""
        entrants = [entrant for one in group if (entrant := self._enter(one)) is not None]
        try:
            for _ in range(self._repeats):
                for entrant in entrants:
                    entrant.run(self._work, self._work.requests[: self._rows(entrant)])
            for entrant in entrants:
                self._judge(entrant)
        finally:
            for entrant in entrants:
                entrant.close()

    def _enter(self, contestant: Contestant) -> Entrant | None:
        reason = why_not(contestant)
        if reason is None:
            try:
                return Entrant.enter(contestant, self._dtype, self._work)
            except ForgeError as error:
                reason = str(error)
        self.absent[contestant.name] = reason
        self._say(f"{self._dtype}: {contestant.name} does not take part: {reason}")
        return None

    def _rows(self, entrant: Entrant) -> int:
        alone = entrant.contestant is SEQUENTIAL
        return self._sequential_rows if alone else len(self._work.requests)

    def _judge(self, entrant: Entrant) -> None:
        if entrant.contestant is SEQUENTIAL:
            self._learn(entrant)
        timed = [entrant.completions[n] for n in range(self._rows(entrant))]
        assert self._size is not None
        least = floor(
            self._size,
            self._peaks,
            [self._prompts[one.request_id] for one in timed],
            [one.output_tokens for one in timed],
        )
        equal = sum(self._texts[one.request_id] == one.text for one in timed)
        self.figures.append(
            Figures(
                name=entrant.contestant.name,
                start_up=entrant.start_up,
                loads=entrant.loads,
                runs=tuple(entrant.runs),
                least=least.seconds,
                equal_rows=equal,
                compared_rows=len(timed),
            )
        )
        self._tell(self.figures[-1])

    def _learn(self, entrant: Entrant) -> None:
        """The texts of the rows that were not timed, the model's size, the prompts' tokens."""
        engine = entrant.engine
        rest = self._work.requests[self._rows(entrant) :]
        found = [*entrant.completions.values(), *entrant.contestant.generate(engine, rest)]
        self._texts = {one.request_id: one.text for one in found}
        self._size = ModelSize.of(engine.model)
        self._prompts = {
            request.request_id: engine.encode(request.prompt, None)
            for request in self._work.requests
        }

    def _tell(self, figures: Figures) -> None:
        best = figures.best
        self._say(
            f"{self._dtype}: {figures.name} {best.tokens_per_second:.1f} tokens/s"
            f" ({best.output_tokens} in {best.seconds:.1f} s),"
            f" {figures.equal_rows} of {figures.compared_rows} texts equal,"
            f" {100 * figures.share:.0f} % of the roofline"
        )
