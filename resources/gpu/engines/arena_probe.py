"""Whether a model's attention over an arena is its own attention: a short text computed both ways.

Some models add to their attention what the arena's kernels do not know (a cap on the scores, sinks,
biases by distance), and would answer wrongly without a word.
"""

from typing import TYPE_CHECKING, Any

from resources.gpu.engines.arena_attention import kernels
from resources.gpu.engines.arena_model import ArenaModel, Piece
from resources.gpu.engines.kv_arena import KvArena, kv_shape

if TYPE_CHECKING:
    import torch

_TOKENS = 40
_LARGEST_HEAD = 256
_TOLERANCE = 0.02
"""Of the logits' length."""
_ROUNDINGS = 3.0
"""In bfloat16 a deep model's rounding alone may be a tenth of the logits' length."""


def arena_kernel(model: Any, device: "torch.device") -> str | None:
    """The fastest kernel with which prompts in two pieces and a step give the logits of the model's own
    attention; None when no kernel does.

    The model's attention is the arena's afterwards if so, else as it was.
    """
    import torch

    if device.type == "cuda":
        newest = torch.cuda.get_device_capability(device) >= (8, 0)
        size = kv_shape(model)[1]
        if not newest or size > _LARGEST_HEAD or size % 8:
            return None
    before = model.config._attn_implementation
    tokens = [7 + 11 * n % 97 for n in range(_TOKENS)]
    own = _own(model, tokens, device)
    rounding = _rounding(model, tokens, device, own)
    allowed = _ROUNDINGS * rounding + _TOLERANCE * own.norm(dim=-1)
    for kernel in kernels(device.type == "cuda"):
        if _is_near(model, tokens, device, kernel, own, allowed):
            return kernel
    model.set_attn_implementation(before)
    return None


def _is_near(
    model: Any,
    tokens: list[int],
    device: "torch.device",
    kernel: str,
    own: "torch.Tensor",
    allowed: "torch.Tensor",
) -> bool:
    import torch

    with torch.inference_mode():
        try:
            ours = _over_an_arena(model, tokens, device, kernel)
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError):
            return False
    return bool(((ours - own).norm(dim=-1) <= allowed).all())


def _own(model: Any, tokens: list[int], device: "torch.device") -> "torch.Tensor":
    """Logits [2, vocabulary] after the last two tokens, as the model computes them by itself."""
    import torch

    with torch.inference_mode():
        output = model(torch.tensor([tokens], device=device), use_cache=False)
        return output.logits[0, -2:].float()


def _rounding(
    model: Any, tokens: list[int], device: "torch.device", own: "torch.Tensor"
) -> "torch.Tensor":
    """How far [2] two ways of the model's own attention are from each other: rounding, no more."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    other = _own(model, tokens, device)
    model.set_attn_implementation(before)
    return (other - own).norm(dim=-1)


def _over_an_arena(
    model: Any, tokens: list[int], device: "torch.device", kernel: str
) -> "torch.Tensor":
    """Logits [2, vocabulary] after the last prompt token and after one step."""
    import torch

    arena_model = ArenaModel(model, KvArena(model, 2 * _TOKENS, device), 1, _TOKENS, kernel)
    start, half = 3, _TOKENS // 2
    arena_model.prompts([Piece(start, 0, tokens[:half])])
    rest = Piece(start, half, tokens[half:-1])
    prompt = arena_model.prompts([rest])
    arena_model.seat(tokens[-1], rest, span=_TOKENS)
    return torch.stack([prompt[0].float(), arena_model.advance(1)[0][0].float()])
