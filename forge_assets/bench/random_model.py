"""Models with the shape of a Llama and random weights, and work of forced lengths for them.

So that nothing is measured but the work: no text means anything, and every contestant makes exactly
the same number of tokens. Needs no Dagster and no database.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from resources.gpu.hf import import_transformers, quiet_transformers

SHAPES = {
    "8b": (4096, 14336, 32, 128),
    "3b": (3072, 8192, 28, 128),
    "1b": (2048, 8192, 16, 64),
}
"""Width, width of the gated layer, layers, size of a head; 8 heads of keys and values."""
_TOKENS, _HEADS = 128_256, 8
_PREFIXES, _PREFIX_TOKENS = 5, 384
_ONE_FILE = "100GB"


@dataclass(frozen=True)
class Job:
    """One interaction: its prompt, and how many tokens it must answer with."""

    tokens: list[int]
    output_tokens: int


def workload(count: int) -> list[Job]:
    """Five shared beginnings of 384 tokens; own parts and outputs lognormal, 300 and 128 in the middle."""
    import numpy as np

    random = np.random.default_rng(7)
    shared = [random.integers(1000, 100_000, _PREFIX_TOKENS).tolist() for _ in range(_PREFIXES)]
    jobs = []
    for number in range(count):
        own = int(np.clip(random.lognormal(np.log(300), 0.6), 32, 1500))
        output = int(np.clip(random.lognormal(np.log(128), 0.7), 16, 512))
        tokens = shared[number % _PREFIXES] + random.integers(1000, 100_000, own).tolist()
        jobs.append(Job(tokens, output))
    return jobs


def split(jobs: Sequence[Job], parts: int) -> list[Sequence[Job]]:
    """Neighbours stay together; the first parts are the larger ones: 500 in 3 are 167, 167, 166."""
    cuts = [-(-len(jobs) * part // parts) for part in range(parts + 1)]
    return [jobs[start:end] for start, end in pairwise(cuts)]


def random_model(shape: str, device: str) -> Any:
    """A Llama of the shape in bfloat16."""
    transformers = import_transformers()
    torch = sys.modules["torch"]
    width, gated, layers, head = SHAPES[shape]
    config = transformers.LlamaConfig(
        hidden_size=width,
        intermediate_size=gated,
        num_hidden_layers=layers,
        num_attention_heads=width // head,
        num_key_value_heads=_HEADS,
        head_dim=head,
        vocab_size=_TOKENS,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(
                config, attn_implementation="sdpa"
            )
    finally:
        torch.set_default_dtype(torch.float32)
    return model.eval()


def write_model(shape: str, folder: Path, device: str) -> None:
    """A random model as a folder: config.json and one safetensors file, no tokenizer."""
    random_model(shape, device).save_pretrained(folder, max_shard_size=_ONE_FILE)


def read_model(folder: Path, device: str) -> Any:
    """As the engine reads converted weights, which has a tokenizer to read as well."""
    with quiet_transformers() as transformers:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype="bfloat16", attn_implementation="sdpa"
        )
    return model.to(device).eval()
