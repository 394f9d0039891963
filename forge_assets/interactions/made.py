"""What one residency of a model made, counted as its answers come."""

from dataclasses import dataclass, field

from resources.gpu.engines.base import Completion


@dataclass
class Made:
    """By step: answers, prompt tokens, output tokens."""

    steps: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, step: str, completion: Completion) -> None:
        answers, prompt, output = self.steps.get(step, (0, 0, 0))
        self.steps[step] = (
            answers + 1,
            prompt + completion.prompt_tokens,
            output + completion.output_tokens,
        )

    def __add__(self, other: "Made") -> "Made":
        nothing = (0, 0, 0)
        names = self.steps | other.steps
        pairs = {
            name: (self.steps.get(name, nothing), other.steps.get(name, nothing)) for name in names
        }
        return Made(
            {name: (a[0] + b[0], a[1] + b[1], a[2] + b[2]) for name, (a, b) in pairs.items()}
        )

    @property
    def answers(self) -> int:
        return sum(step[0] for step in self.steps.values())

    @property
    def prompt_tokens(self) -> int:
        return sum(step[1] for step in self.steps.values())

    @property
    def output_tokens(self) -> int:
        return sum(step[2] for step in self.steps.values())
