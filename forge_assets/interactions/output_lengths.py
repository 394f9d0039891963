"""How long the answers of each step turn out to be, learned as they come."""

from collections.abc import Mapping

_WEIGHT_OF_HISTORY = 32
"""Answers of this run that count as much as what earlier runs had."""


class OutputLengths:
    """Mean output tokens by step, begun with what earlier runs had."""

    def __init__(self, earlier: Mapping[str, float]) -> None:
        self._answers = dict.fromkeys(earlier, _WEIGHT_OF_HISTORY)
        self._tokens = {step: mean * _WEIGHT_OF_HISTORY for step, mean in earlier.items()}

    def learn(self, step: str, output_tokens: int) -> None:
        self._answers[step] = self._answers.get(step, 0) + 1
        self._tokens[step] = self._tokens.get(step, 0) + output_tokens

    def expected(self, step: str, at_most: int) -> int:
        """Tokens that the step's next answer will have; the most it may where nothing is known."""
        answers = self._answers.get(step)
        if not answers:
            return at_most
        return max(1, min(at_most, round(self._tokens[step] / answers)))
