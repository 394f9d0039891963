"""The next token of every row: greedy, or drawn from the row's own seeded generator."""

from typing import TYPE_CHECKING

from resources.gpu.engines.base import GenerationRequest

if TYPE_CHECKING:
    import torch


def is_plain_greedy(request: GenerationRequest) -> bool:
    """True when the next token is the plain argmax of the model's logits."""
    return request.temperature <= 0 and request.repetition_penalty == 1.0


def row_generator(request: GenerationRequest, device: "torch.device") -> "torch.Generator | None":
    """The row's own source of chance, so that its neighbours in the batch do not matter."""
    import torch

    if request.temperature <= 0:
        return None
    return torch.Generator(device=device).manual_seed(request.seed)


def penalize_repetition(logits: "torch.Tensor", penalty: float, seen: "torch.Tensor") -> None:
    """Divide the positive and multiply the negative logits [1, vocabulary] of ``seen`` tokens, in place."""
    if penalty != 1.0:
        scores = logits[0, seen]
        logits[0, seen] = (scores * penalty).where(scores < 0, scores / penalty)


def sample(
    logits: "torch.Tensor", request: GenerationRequest, generator: "torch.Generator | None"
) -> int:
    """Choose from float32 logits [1, vocabulary]; forbidden tokens are -inf."""
    import torch

    if generator is None:
        return int(logits.argmax())
    scores = logits[0] / request.temperature
    if request.top_k:
        least = scores.topk(min(request.top_k, scores.numel())).values[-1]
        scores = scores.masked_fill(scores < least, -torch.inf)
    chances = scores.softmax(-1)
    if request.top_p < 1.0:
        ordered, order = chances.sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= request.top_p
        chances[order[beyond]] = 0.0
    return int(torch.multinomial(chances, 1, generator=generator))
