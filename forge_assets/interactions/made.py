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

    @property
    def answers(self) -> int:
        return sum(step[0] for step in self.steps.values())

    @property
    def prompt_tokens(self) -> int:
        return sum(step[1] for step in self.steps.values())

    @property
    def output_tokens(self) -> int:
        return sum(step[2] for step in self.steps.values())
