"""Attention over a KvArena, registered with transformers under ``NAME``.

The model's tokens are those of all rows of a pass, one after the other; a row's queries see what its
span holds up to themselves. On a GPU a flash attention reads the spans in place: the third one where
its package is installed and the GPU is of its kind, else torch's own, which is the second. On a CPU each
row is computed by itself: right, and slow, so that everything around it can be tested there.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from resources.gpu.engines.kv_arena import KvArena

if TYPE_CHECKING:
    import torch

NAME = "forge_arena"
_UNKNOWN = ("softcap", "s_aux", "sliding_window", "position_bias")
"""What some models add to their attention."""
FLASH_3, FLASH, ROW_BY_ROW = "flash attention 3", "torch flash attention", "row by row"


@dataclass(frozen=True)
class ArenaPass:
    """Where one forward pass writes and reads; tensors on the arena's device.

    ``slots`` [tokens]: where the new keys and values go. ``offsets`` [rows + 1]: where each row's
    queries begin in the pass. ``starts`` [rows + 1]: where each row's span begins, the last unused.
    ``filled`` [rows]: slots of the span that hold keys, the new ones included.
    """

    arena: KvArena
    slots: "torch.Tensor"
    offsets: "torch.Tensor"
    starts: "torch.Tensor"
    filled: "torch.Tensor"
    longest_query: int
    longest_span: int
    kernel: str


def register() -> None:
    """Make the name known. No mask is registered with it: transformers then makes none."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: object,
    *,
    scaling: float,
    arena_pass: ArenaPass | None = None,
    **more: Any,
) -> "tuple[torch.Tensor, None]":
    """query, key, value [1, heads, tokens, size] -> [1, tokens, heads, size].

    Without a pass the model was called by somebody else, with one prompt: plain causal attention.
    """
    if arena_pass is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, None, scaling=scaling, **more)
    if unknown := [name for name in _UNKNOWN if more.get(name) is not None]:
        raise ValueError(f"the arena's kernels know no {', '.join(unknown)}")
    keys, values = arena_pass.arena.layers[module.layer_idx]
    keys.index_copy_(0, arena_pass.slots, key[0].transpose(0, 1))
    values.index_copy_(0, arena_pass.slots, value[0].transpose(0, 1))
    queries = query[0].transpose(0, 1)
    run = _KERNELS[arena_pass.kernel]
    return run(queries, keys, values, arena_pass, scaling).unsqueeze(0), None


def kernels(on_gpu: bool) -> list[str]:
    """Names of those that can run here, the fastest first."""
    if not on_gpu:
        return [ROW_BY_ROW]
    third = [FLASH_3] if _flash_attention_3() is not None else []
    return [*third, FLASH]


@lru_cache
def _flash_attention_3() -> "Callable[..., torch.Tensor] | None":
    """The package's kernel, for GPUs of compute capability 9."""
    import torch

    if importlib.util.find_spec("flash_attn_interface") is None:
        return None
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        return None
    from flash_attn_interface import flash_attn_varlen_func

    return flash_attn_varlen_func


def _third(
    queries: "torch.Tensor",
    keys: "torch.Tensor",
    values: "torch.Tensor",
    arena_pass: ArenaPass,
    scaling: float,
) -> "torch.Tensor":
    function = _flash_attention_3()
    assert function is not None
    found = function(
        queries.contiguous(),
        keys,
        values,
        cu_seqlens_q=arena_pass.offsets,
        cu_seqlens_k=arena_pass.starts,
        seqused_k=arena_pass.filled,
        max_seqlen_q=arena_pass.longest_query,
        max_seqlen_k=arena_pass.longest_span,
        softmax_scale=scaling,
        causal=True,
    )
    return found[0] if isinstance(found, tuple) else found


def _flash(
    queries: "torch.Tensor",
    keys: "torch.Tensor",
    values: "torch.Tensor",
    arena_pass: ArenaPass,
    scaling: float,
) -> "torch.Tensor":
    import torch

    # torch.nn.attention.varlen names the same kernel, but lets a span be shorter than the distance
    # to the next start only from 2.13 on.
    found = torch.ops.aten._flash_attention_forward(
        queries.contiguous(),
        keys,
        values,
        arena_pass.offsets,
        arena_pass.starts,
        arena_pass.longest_query,
        arena_pass.longest_span,
        0.0,
        True,
        False,
        scale=scaling,
        seqused_k=arena_pass.filled,
    )
    return found[0]


def _row_by_row(
    queries: "torch.Tensor",
    keys: "torch.Tensor",
    values: "torch.Tensor",
    arena_pass: ArenaPass,
    scaling: float,
) -> "torch.Tensor":
    import torch

    parts = []
    offsets, starts = arena_pass.offsets.tolist(), arena_pass.starts.tolist()
    for row, filled in enumerate(arena_pass.filled.tolist()):
        first, start = offsets[row], starts[row]
        q = queries[first : offsets[row + 1]].transpose(0, 1)
        span = slice(start, start + filled)
        seen = torch.ones((q.shape[1], filled), dtype=torch.bool).tril(filled - q.shape[1])
        part = torch.nn.functional.scaled_dot_product_attention(
            q.unsqueeze(0),
            keys[span].transpose(0, 1).unsqueeze(0),
            values[span].transpose(0, 1).unsqueeze(0),
            attn_mask=seen,
            scale=scaling,
            enable_gqa=True,
        )
        parts.append(part[0].transpose(0, 1))
    return torch.cat(parts)


_KERNELS = {FLASH_3: _third, FLASH: _flash, ROW_BY_ROW: _row_by_row}
