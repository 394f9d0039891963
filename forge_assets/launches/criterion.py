"""One line of a launch's preflight, and all of them together."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "no", "unknown", "not_applicable"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """``fix``: a command or a line of forge.yaml. ``needed``: what is not known stops the launch."""

    name: str
    state: State
    detail: str
    fix: str = ""
    needed: bool = True

    @property
    def stops(self) -> bool:
        return self.state == "no" or (self.state == "unknown" and self.needed)

    @property
    def word(self) -> str:
        if self.stops:
            return "NO-GO"
        return {"ok": "GO", "not_applicable": "n/a"}.get(self.state, "WARN")

    @property
    def told(self) -> str:
        return f"not known: {self.detail}" if self.state == "unknown" else self.detail


@dataclass(frozen=True, slots=True)
class LaunchPreflight:
    """``image``: by its digest when the registry told it, else as configured."""

    job: str
    criteria: tuple[Criterion, ...]
    image: str

    @property
    def go(self) -> bool:
        """Nothing refuses, and something was looked at at all."""
        return bool(self.criteria) and not self.refusals

    @property
    def refusals(self) -> tuple[Criterion, ...]:
        return tuple(one for one in self.criteria if one.stops)

    @property
    def sentence(self) -> str:
        """Why not, with every fix; "" for GO."""
        if self.go:
            return ""
        told = [
            f"{one.name}: {one.told}" + (f" (fix: {one.fix})" if one.fix else "")
            for one in self.refusals
        ]
        return f"NO-GO for {self.job}: {'; '.join(told) or 'nothing was looked at'}"

    def lines(self) -> list[str]:
        """One aligned line per criterion, its fix below it, then the answer."""
        width = max((len(one.name) for one in self.criteria), default=0)
        found = []
        for one in self.criteria:
            found.append(f"{one.word:<5}  {one.name:<{width}}  {one.told}")
            if one.fix:
                found.append(f"{'':<5}  {'':<{width}}  fix: {one.fix}")
        names = ", ".join(one.name for one in self.refusals)
        answer = "GO" if self.go else "NO-GO"
        return [*found, f"{answer} for {self.job}" + (f": {names}" if names else "")]
