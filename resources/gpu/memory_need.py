"""What a model needs of a device's memory, computed from its configuration before it is loaded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resources.gpu.model_config import ModelConfig
    from resources.gpu.weights import WeightsInfo

STATIC_ROWS, CONTINUOUS_ROWS = 64, 512
BATCH_TOKENS = 24576
"""Rows times columns of a static batch, unless the configuration says otherwise or a GPU has room for more."""
CPU_PREFILL, GPU_PREFILL = 512, 16384
"""Rows of a batch and prompt tokens of a forward pass, unless the configuration says otherwise."""


_PARKED_SHARE = 0.5
"""Of the host's free memory: what one model that does not work now may take."""


def host_has_room(size: int) -> bool:
    """Whether so many bytes of weights may wait in the host's memory."""
    from resources.host_memory import memory

    return size <= _PARKED_SHARE * memory().available


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes. ``keys_values`` are those of the fewest tokens that a batch should hold."""

    weights: int
    keys_values: int
    workspace: int

    @property
    def total(self) -> int:
        return self.weights + self.keys_values + self.workspace


def memory_need(
    weights: "WeightsInfo", config: "ModelConfig", width: int, on_gpu: bool
) -> MemoryNeed:
    """``width``: bytes of a number in the model's dtype. Source: the folder's config.json."""
    shape = model_shape(weights.path)
    rows = config.max_batch or (CONTINUOUS_ROWS if on_gpu else STATIC_ROWS)
    prefill = GPU_PREFILL if on_gpu else CPU_PREFILL
    return MemoryNeed(
        weights=weights.parameters * width,
        keys_values=(config.max_batch_tokens or BATCH_TOKENS) * token_bytes(shape, width),
        workspace=workspace_bytes(shape, width, prefill, rows),
    )


def model_shape(folder: Path) -> dict[str, Any]:
    """The text model's part of config.json; empty when there is none to read."""
    try:
        content = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return dict(content.get("text_config") or content)


def token_bytes(shape: dict[str, Any], width: int) -> int:
    """Keys and values of one token in all layers."""
    heads = shape.get("num_attention_heads") or 1
    size = shape.get("head_dim") or shape.get("hidden_size", 0) // heads
    key_heads = shape.get("num_key_value_heads") or heads
    return int(2 * shape.get("num_hidden_layers", 0) * key_heads * size * width)


def workspace_bytes(shape: dict[str, Any], width: int, prefill_tokens: int, rows: int) -> int:
    """The widest layer of the largest prompt pass, and the logits of all rows."""
    layer = 4 * (shape.get("intermediate_size") or 0) + 12 * (shape.get("hidden_size") or 0)
    logits = rows * (shape.get("vocab_size") or 0) * (2 * width + 4)
    return int(prefill_tokens * layer * width + logits)
