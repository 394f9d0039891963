"""The Triton kernels of ``fused``. Imports torch and triton."""

import torch
import triton
import triton.language as tl


@triton.jit
def _rms_norm(x, weight, out, eps, width: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row * width + columns, mask=inside, other=0.0)
    wide = values.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    normed = (wide * scale).to(values.dtype)
    weights = tl.load(weight + columns, mask=inside, other=0.0)
    tl.store(out + row * width + columns, weights * normed, mask=inside)


def rms_norm(weight: torch.Tensor, eps: float, x: torch.Tensor) -> torch.Tensor:
    """``weight * x / sqrt(mean(x**2) + eps)`` over the last axis."""
    x = x.contiguous()
    out = torch.empty_like(x)
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    warps = 8 if block >= 2048 else 4
    _rms_norm[(x.numel() // width,)](x, weight, out, eps, width, block, num_warps=warps)
    return out


@triton.jit
def _silu_times(gate, up, out, count, block: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < count
    values = tl.load(gate + places, mask=inside, other=0.0)
    wide = values.to(tl.float32)
    active = (wide / (1.0 + tl.exp(-wide))).to(values.dtype)
    tl.store(out + places, active * tl.load(up + places, mask=inside, other=0.0), mask=inside)


def silu_times(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up``; both contiguous and of one shape."""
    out = torch.empty_like(gate)
    block = 1024
    _silu_times[(triton.cdiv(gate.numel(), block),)](gate, up, out, gate.numel(), block)
    return out


@triton.jit
def _rotate(
    x, cos, sin, token_stride, head_stride, heads: tl.constexpr, half: tl.constexpr,
    head_block: tl.constexpr, half_block: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, half_block)
    inside = columns < half
    head = tl.arange(0, head_block)
    mask = (head < heads)[:, None] & inside[None, :]
    first = x + token * token_stride + head[:, None] * head_stride + columns[None, :]
    a = tl.load(first, mask=mask, other=0.0)
    b = tl.load(first + half, mask=mask, other=0.0)
    angles = token * 2 * half + columns
    cos_a = tl.load(cos + angles, mask=inside, other=0.0).to(tl.float32)[None, :]
    cos_b = tl.load(cos + angles + half, mask=inside, other=0.0).to(tl.float32)[None, :]
    sin_a = tl.load(sin + angles, mask=inside, other=0.0).to(tl.float32)[None, :]
    sin_b = tl.load(sin + angles + half, mask=inside, other=0.0).to(tl.float32)[None, :]
    wide_a, wide_b = a.to(tl.float32), b.to(tl.float32)
    tl.store(first, (wide_a * cos_a - wide_b * sin_a).to(a.dtype), mask=mask)
    tl.store(first + half, (wide_b * cos_b + wide_a * sin_b).to(a.dtype), mask=mask)


def rotate(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary embedding of one row [1, heads, tokens, size], in place; cos and sin [1, tokens, size]."""
    cos, sin = cos.contiguous(), sin.contiguous()
    for x in (query, key):
        _, heads, tokens, size = x.shape
        half = size // 2
        blocks = (triton.next_power_of_2(heads), triton.next_power_of_2(half))
        _rotate[(tokens,)](x, cos, sin, x.stride(2), x.stride(1), heads, half, *blocks)
    return query, key
